//! Do programs of the kind that people run get their token in each form, and does it work for them? The table in
//! docs/running.md is what comes out here.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use blindferry_handle::inherit::keep_over_exec;
use blindferry_handle::memfd::Handle;
use blindferry_tests::account::{NAMED, is_root};
use blindferry_tests::attack_launch::Launcher;
use blindferry_tests::services::{Postgres, Sshd, WELCOME, http};
use fake_broker::{FakeBroker, honest};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

#[path = "../host/worker/tests/worker/fake_broker.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod fake_broker;
#[path = "../host/worker/tests/worker/fake_vault.rs"]
mod fake_vault;

const TOKEN: &str = "a-token-for-real-programs-5d1c77e2";

/// The columns of the table: what `--deliver` takes, `env:` and a variable's name last.
const FORMS: [&str; 4] = ["pipe", "memfd", "stdin", "env:"];

/// How a program comes to its token in one form.
enum How {
    /// By itself: it is what the launcher starts.
    Itself(Vec<String>),
    /// A shell, which the launcher starts, hands it over.
    Shell(String),
    /// Not at all; this is what somebody would try.
    Never(String),
}

/// A row of the table.
struct Program {
    name: &'static str,
    token: String,
    variable: &'static str,
    /// In the order of [`FORMS`].
    forms: [How; 4],
}

#[test]
fn programs_that_people_run_get_their_token_in_each_form_and_it_works() {
    if !is_root() {
        println!("skipped: only root can be another user, run an sshd, and install the launcher set-group-ID");
        return;
    }
    let place = Place::make();
    let services = Services::start(&place);
    let programs = programs(&place, &services);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/running.md");
    let text = fs::read_to_string(&page).unwrap();
    let head = "| program | `pipe` | `memfd` | `stdin` | variable |\n|---|---|---|---|---|\n";
    let rows: Vec<String> = programs.iter().map(|program| place.row(program)).collect();
    // Why a JVM has a shell in every form.
    for program in programs.iter().filter(|program| program.name == "a JVM") {
        let How::Shell(script) = &program.forms[1] else { continue };
        let words: Vec<String> = script.split(' ').skip(1).map(str::to_owned).collect();
        let (welcome, said) = place.run(program, "exec-only", "memfd", &words);
        assert!(!welcome && said.contains("libjli"), "{said}");
    }
    if env::var_os("BLINDFERRY_WRITE_TABLE").is_some() && rows.len() == ALL {
        let start = text.find("| program | `pipe` |").unwrap();
        let end = start + text[start..].find("\n\n").unwrap() + 1;
        fs::write(&page, [&text[..start], head, &rows.concat(), &text[end..]].concat()).unwrap();
        return;
    }
    // Programs that are not here are not in it.
    for row in rows {
        assert!(text.contains(&row), "docs/running.md says something else (BLINDFERRY_WRITE_TABLE=1 writes it): {row}");
    }
}

/// A launcher, and a directory for programs.
struct Place {
    launcher: Launcher,
    broker: FakeBroker,
    directory: tempfile::TempDir,
}

impl Place {
    fn make() -> Self {
        let broker = FakeBroker::start("programs", honest(TOKEN.as_bytes()));
        let launcher = Launcher::install("programs", &broker.path());
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { launcher, broker, directory }
    }

    /// Runs a program in each form at each level, and says how it went.
    fn row(&self, program: &Program) -> String {
        let mut cells = String::new();
        for (form, how) in FORMS.into_iter().zip(&program.forms) {
            let (words, cell, works) = match how {
                How::Itself(words) => (words.clone(), "itself", true),
                How::Shell(script) => (vec!["sh".to_owned(), "-c".to_owned(), script.clone()], "by a shell", true),
                How::Never(script) => (vec!["sh".to_owned(), "-c".to_owned(), script.clone()], "no", false),
            };
            let form = if form == "env:" { format!("env:{}", program.variable) } else { form.to_owned() };
            for level in ["exec-only", "own-group"] {
                let (welcome, said) = self.run(program, level, &form, &words);
                assert_eq!(welcome, works, "{} by {form} at {level}: {said}", program.name);
            }
            cells.push_str(&format!(" {cell} |"));
        }
        format!("| {} |{cells}\n", program.name)
    }

    /// Whether the service welcomed the program, and what it said otherwise.
    fn run(&self, program: &Program, level: &str, form: &str, words: &[String]) -> (bool, String) {
        // Another token than the usual one takes another broker.
        let own = (program.token != TOKEN).then(|| {
            let token: &'static str = Box::leak(program.token.clone().into_boxed_str());
            FakeBroker::start("programs-own", honest(token.as_bytes()))
        });
        let workers = own.as_ref().unwrap_or(&self.broker).path();
        let grant = Handle::seal("grant", b"opaque grant").unwrap().into_fd();
        keep_over_exec(grant.as_fd()).unwrap();
        let mut command = NAMED.command(&self.launcher.path());
        command.args(["--grant-fd", &grant.as_raw_fd().to_string(), "--workers"]).arg(workers);
        command.args(["--protection", level, "--deliver", form, "--"]).args(words);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", "/").current_dir("/");
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (output.status.success() && said[0].contains(WELCOME), said.join("\n"))
    }

    /// Builds a program, if its compiler is here.
    fn built(&self, compiler: &[&str], source: &str, to: &str) -> Option<String> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("support/clients").join(source);
        let made = self.directory.path().join(to);
        let mut command = Command::new(compiler[0]);
        command.args(&compiler[1..]).arg(&made).arg(source).env("GOCACHE", self.directory.path().join("go"));
        let status = command.env("GO111MODULE", "off").env("CGO_ENABLED", "0").status().ok()?;
        assert!(status.success(), "{compiler:?}");
        Some(made.to_str().unwrap().to_owned())
    }
}

struct Services {
    http: u16,
    sshd: Option<Sshd>,
    postgres: Option<Postgres>,
}

impl Services {
    fn start(place: &Place) -> Self {
        let directory = place.directory.path();
        Self { http: http(TOKEN), sshd: Sshd::start(directory), postgres: Postgres::start(NAMED, TOKEN, directory) }
    }
}

/// Those that are here.
fn programs(place: &Place, services: &Services) -> Vec<Program> {
    let port = services.http.to_string();
    let ssh = services.sshd.as_ref().map(ssh);
    let rows = [
        ("python", here("python3").then(|| alike(&["python3", "-c", PYTHON, &port]))),
        ("node", here("node").then(|| alike(&["node", "-e", NODE, &port]))),
        ("bash", here("bash").then(|| alike(&["bash", "-c", BASH, "bash", &port]))),
        ("git", here("git").then(|| git(&port))),
        ("curl", here("curl").then(|| curl(&port))),
        ("ssh", ssh),
        ("psql", services.postgres.as_ref().map(psql)),
        ("a Go program", place.built(&["go", "build", "-o"], "client.go", "go-client").map(|it| alike(&[&it, &port]))),
        ("a JVM", place.built(&["javac", "-d"], "Client.java", "classes").map(|classes| java(&classes, &port))),
        ("a static Rust program", place.built(RUSTC, "client.rs", "rust-client").map(|it| alike(&[&it, &port]))),
    ];
    let key = services.sshd.as_ref().map(|sshd| sshd.key.clone());
    let present = rows.into_iter().filter_map(|(name, forms)| {
        if forms.is_none() {
            println!("skipped: no {name} here");
        }
        let token = if name == "ssh" { key.clone()? } else { TOKEN.to_owned() };
        let variable = if name == "psql" { "PGPASSWORD" } else { "SECRET" };
        Some(Program { name, token, variable, forms: forms? })
    });
    present.collect()
}

fn here(program: &str) -> bool {
    let mut command = NAMED.command(Path::new(program));
    command.arg("--version").env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
}

/// The same words in each form: such a program looks where its token is.
fn alike(words: &[&str]) -> [How; 4] {
    FORMS.map(|_| How::Itself(words.iter().map(|word| (*word).to_owned()).collect()))
}

/// As what a shell calls the token in each form.
const BY_SHELL: [&str; 4] = [r#""$(cat "$TOKEN_FILE")""#, r#""$(cat "$TOKEN_FILE")""#, r#""$(cat)""#, r#""$SECRET""#];

/// Its helper is a shell's function, which has git's descriptors and variables, but not its input.
fn git(port: &str) -> [How; 4] {
    BY_SHELL.map(|token| {
        let helper = format!("credential.helper=!f() {{ echo username=x; printf 'password=%s\\n' {token}; }}; f");
        let words = ["git", "-c", &helper, "ls-remote", &format!("http://127.0.0.1:{port}/repository")];
        match token.contains("(cat)") {
            false => How::Itself(words.map(str::to_owned).into()),
            true => How::Never(format!(
                "GIT_TERMINAL_PROMPT=0 git -c '{}' ls-remote {}",
                helper.replace('\'', "'\\''"),
                words[4]
            )),
        }
    })
}

/// A header in a configuration on its input: what is on its command line everybody sees.
fn curl(port: &str) -> [How; 4] {
    BY_SHELL.map(|token| {
        let header = "header = \"Authorization: Bearer %s\"\\n";
        How::Shell(format!("printf '{header}' {token} | curl --silent --fail --config - http://127.0.0.1:{port}/"))
    })
}

/// The token is a private key, which goes into an agent: ssh itself closes whatever descriptor it is given a path of.
fn ssh(sshd: &Sshd) -> [How; 4] {
    let options =
        "-F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR";
    let connect = format!("ssh {options} -p {} root@127.0.0.1", sshd.port);
    BY_SHELL.map(|token| How::Shell(format!("printf '%s\\n' {token} | ssh-agent sh -c 'ssh-add -q - && {connect}'")))
}

fn psql(postgres: &Postgres) -> [How; 4] {
    let (psql, socket) = (postgres.psql.to_str().unwrap(), postgres.socket.to_str().unwrap());
    let (first, question) =
        ([psql, "--no-password", "-h", socket, "-U", "postgres", "-Atc"], format!("select '{WELCOME}'"));
    let connect = format!("{} \"{question}\"", first.join(" "));
    let [pipe, memfd, stdin, _] = BY_SHELL.map(|token| How::Shell(format!("PGPASSWORD={token} exec {connect}")));
    let words = first.map(str::to_owned).into_iter().chain([question]);
    [pipe, memfd, stdin, How::Itself(words.collect())]
}

/// It finds its own libraries by `/proc/self/exe`.
fn java(classes: &str, port: &str) -> [How; 4] {
    FORMS.map(|_| How::Shell(format!("exec java -Xshare:auto -XX:TieredStopAtLevel=1 -cp {classes} Client {port}")))
}

const PYTHON: &str = "
import os, socket, sys
token = os.environ.get('SECRET')
if 'TOKEN_FILE' in os.environ: token = open(os.environ['TOKEN_FILE']).read()
elif token is None: token = sys.stdin.read()
service = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
service.sendall(f'GET / HTTP/1.0\\r\\nAuthorization: Bearer {token}\\r\\n\\r\\n'.encode())
print(service.makefile().read())";
const NODE: &str = "
const fs = require('fs');
const file = process.env.TOKEN_FILE;
const token = file ? fs.readFileSync(file, 'utf8') : process.env.SECRET || fs.readFileSync(0, 'utf8');
const headers = { Authorization: `Bearer ${token}` };
require('http').get({ port: +process.argv[1], host: '127.0.0.1', headers }, answer => answer.pipe(process.stdout));";
const BASH: &str = r#"
if [ -n "$TOKEN_FILE" ]; then token=$(<"$TOKEN_FILE"); elif [ -n "$SECRET" ]; then token=$SECRET; else read -r token; fi
exec 3<>"/dev/tcp/127.0.0.1/$1"
printf 'GET / HTTP/1.0\r\nAuthorization: Bearer %s\r\n\r\n' "$token" >&3
while read -r line || [ -n "$line" ]; do echo "$line"; done <&3"#;
const RUSTC: &[&str] = &["rustc", "--edition=2024", "-Ctarget-feature=+crt-static", "-o"];
/// How many there are.
const ALL: usize = 10;
