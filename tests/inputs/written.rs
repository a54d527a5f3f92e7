//! What the fuzzer starts from where people write.

use crate::{Put, messages::POLICY, parts};

pub(crate) fn all(put: &mut Put<'_>) {
    put("policy", "permit", POLICY.as_bytes().to_vec());
    put("policy", "conditions", CONDITIONS.as_bytes().to_vec());
    for (name, text) in [
        ("credential", "github-deploy".to_owned()),
        ("variable", "GITHUB_TOKEN".to_owned()),
        ("digest", "0a".repeat(32)),
        ("chip", "0a".repeat(64)),
        ("level", "own-namespace".to_owned()),
        ("address", "https://id.example:8443/token?tenant=7".to_owned()),
        ("loopback", "http://[::1]:80".to_owned()),
    ] {
        put("names", name, text.into_bytes());
    }
    put("configurations", "front", FRONT.as_bytes().to_vec());
    put("configurations", "broker", BROKER.as_bytes().to_vec());
    let reference = format!("ak = \"000b{}\"\naudit_key = \"{}\"\n{REFERENCE}", "07".repeat(32), "0a".repeat(32));
    put("configurations", "reference", reference.into_bytes());
    let template = b"url = {{ credential db | toml }}\nkey: {{credential github-deploy}} {{ .Values.x }}\n";
    put("templates", "two", [&parts(&[template])[..], b"a\"b\\c'd\n $e"].concat());
    let block = b"PATH=/bin\0GITHUB_TOKEN=x\0https_proxy=http://u:p@proxy\0LD_PRELOAD=x\0LANG=C\0RUST_LOG=debug\0";
    put("environment", "asked", [&[0][..], &parts(&[b" RUST_LOG\n!GITHUB_TOKEN\n A=b"]), block].concat());
    put("environment", "everything", [&[1][..], &parts(&[b""]), block].concat());
}

const CONDITIONS: &str = r#"// Build hosts alone.
@id("deploy")
@approval("required")
permit (principal in Blindferry::Host::"a-host", action, resource)
when { principal.uid == 1000 && context.platform == "tpm" && context.session_age < 7200 }
unless { context.inherited.contains("AWS_PROFILE") };
forbid (principal, action == Blindferry::Action::"renew", resource)
when { if context has audience then context.audience like "http://*" else false };
"#;

const FRONT: &str = r#"listen = "127.0.0.1:7443"
public = "127.0.0.1:7480"
store = "/s/store.redb"
tcti = "swtpm:host=127.0.0.1,port=2321"
pins = "/s/pins.toml"
reattest_every = 300
[logs]
[limits]
dial_timeout = 7
"#;

const BROKER: &str = r#"name = "a-host"
vault = "vault.example:7443"
vault_reference = "/etc/blindferry/vault.toml"
tcti = "device:/dev/tpmrm0"
pins = "/var/lib/blindferry/pins"
"#;

const REFERENCE: &str = r#"version = 1
role = "vault"
[[tpm]]
name = "a vault"
firmware = "any"
[tpm.pcrs]
7 = ["7070707070707070707070707070707070707070707070707070707070707070"]
"#;
