//! The front: listens, dials, keeps the store, serves plain HTTP; holds no key.
//!
//! ```text
//!   brokers, operators        HTTP clients            upstreams
//!         │ TLS, opaque            │                      ▲ TLS, opaque
//!  ┌──────▼────────────────────────▼──────────────────────┴───────────┐
//!  │ front   blindferry-enclave                                       │
//!  │                                                                  │
//!  │ holds    the store's file (ciphertext), the listening sockets,   │
//!  │          one socket to the vault; no key, no plaintext           │
//!  │ sees     who connects and when, names of upstreams, the sizes    │
//!  │          and times of what is stored                             │
//!  │ gave up  execve, fork, ptrace and its kin, io_uring, bpf,        │
//!  │          all files but the store's directory and the resolver's  │
//!  └──────┬───────────────────────────────────────────────────────────┘
//!         │ one SEQPACKET socketpair: packets of `blindferry_proto::front`, connections as descriptors
//!  ┌──────▼──────┐  one SEQPACKET socketpair   ┌────────┐
//!  │    vault    ├─────────────────────────────┤ device ├── TPM
//!  └─────────────┘  (the front has no end)     └────────┘
//! ```
//!
//! A front in other hands can refuse service, lose or roll back the store, and watch the traffic. It learns no secret
//! and can make nothing that the vault, a broker or an operator would believe.
//!
//! | file | its job |
//! |---|---|
//! | [`configuration`] | the file that people write |
//! | [`store`] | the queue before the database, and [`store::redb`] the database |
//! | [`publication`] | JWK sets and discovery documents |
//! | [`metrics`] | what is counted, as text |
//! | [`pulse`] | whether the vault answers |
//! | [`connections`] | how many are open, and from whom |
//! | [`link`] | the packets between front and vault |
//! | [`dial`] | connections to upstreams |
//! | [`start`] | the processes |
//! | [`confine`] | what the front gives up |
//! | [`listen`] | accepted connections, given to the vault |
//! | [`public`] | the HTTP endpoints |
//! | [`page`] | the operators' page |
//! | `traces` | what requests took, as spans |

pub mod configuration;
pub mod confine;
pub mod connections;
pub mod dial;
pub mod link;
pub mod listen;
pub mod metrics;
pub mod notify;
pub mod page;
pub mod public;
pub mod publication;
pub mod pulse;
pub mod start;
pub mod store;
mod traces;
