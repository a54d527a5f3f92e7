//! What our processes tell those who watch them: lines of the log, histograms, and the text of metrics. No secret is an
//! input of anything here, and nothing here reads a clock or a socket.
//!
//! | file | its job |
//! |---|---|
//! | [`line`](mod@line) | one line of the log, in three forms |
//! | [`figures`] | how long things take, counted in buckets |
//! | [`names`] | every metric that there is |
//! | [`exposition`] | Prometheus' text format |
//! | [`resident`] | how much memory a process uses |

pub mod exposition;
pub mod figures;
pub mod line;
pub mod names;
pub mod resident;
