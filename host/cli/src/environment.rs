//! What `run` and `env` are told of the program's environment, and how they show what comes of it.

use crate::failure::Failure;
use crate::output::{Output, Table};
use blindferry_environment::{Policy, Selection, Switch};
use serde_json::{Value, json};
use std::env;
use std::ffi::{OsStr, OsString};

/// What of the environment passes beside what every program gets.
///
/// The launcher has the same options, and this command hands them on.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Wanted {
    /// Pass this variable on, or set it; may be given several times
    ///
    /// Neither a credential nor what makes programs load code: that is refused, and said which option does it.
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,
    /// Pass a group of variables on; may be given several times
    ///
    /// aws, azure, google, kubernetes, docker, ssh-agent, gpg, session-bus, display, proxy, certificates, virtual-env,
    /// toolchain, ci; and, each of which can make PROGRAM run other code, library-path, preload, shell-code, python-code,
    /// node-code, java-code, script-code, git-code, build-code, programs.
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    pass: Vec<Switch>,
    /// Pass a credential of this environment on, by the name of its variable; may be given several times
    #[arg(long, value_name = "NAME")]
    inherit_credentials: Vec<OsString>,
    /// Pass the whole environment on, but what is a credential, leads to one, or makes programs load code
    #[arg(long)]
    inherit_env: bool,
    /// Show which variables PROGRAM would get and why, what is left out, and what would let it in; run nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl Wanted {
    /// Divides this process's environment.
    ///
    /// # Errors
    /// [`Failure::Environment`].
    pub(crate) fn select(&self) -> Result<Selection, Failure> {
        let mut policy = Policy::default();
        let refused = |source| Failure::Environment { source };
        for asked in &self.env {
            policy.ask(asked.clone()).map_err(refused)?;
        }
        for name in &self.inherit_credentials {
            policy.inherit_credential(name.clone()).map_err(refused)?;
        }
        self.pass.iter().for_each(|&switch| policy.pass(switch));
        if self.inherit_env {
            policy.pass_everything_harmless();
        }
        policy.select(env::vars_os()).map_err(refused)
    }

    /// The same, as options of the launcher.
    pub(crate) fn into_options(self) -> Vec<OsString> {
        let Self { env, pass, inherit_credentials, inherit_env, dry_run: _ } = self;
        let mut options: Vec<OsString> = Vec::new();
        // In one word each, so that a value which begins with a dash is none of the launcher's options.
        let mut word = |option: &str, value: &OsStr| {
            let mut word = OsString::from(option);
            word.push(value);
            options.push(word);
        };
        env.iter().for_each(|asked| word("--env=", asked));
        pass.iter().for_each(|switch| word("--pass=", switch.name().as_ref()));
        inherit_credentials.iter().for_each(|name| word("--inherit-credentials=", name));
        options.extend(inherit_env.then(|| "--inherit-env".into()));
        options
    }
}

/// Shows what a program would get: names, never values. `delivered` are variables that the token would be found by.
///
/// # Errors
/// Those of [`Output::show`].
pub(crate) fn show(output: Output, selection: &Selection, delivered: &[OsString]) -> Result<(), Failure> {
    output.show(&document(selection, delivered), || text(selection, delivered))
}

fn document(selection: &Selection, delivered: &[OsString]) -> Value {
    let delivered_names: Vec<_> = delivered.iter().map(|name| name.to_string_lossy()).collect();
    let passes = selection
        .passed()
        .filter(|passed| !is_replaced(passed.name, delivered))
        .map(|passed| json!({ "name": passed.name.to_string_lossy(), "from": passed.origin.to_string() }));
    let left_out = selection.left_out().map(|(name, reason)| {
        json!({ "name": name.to_string_lossy(), "why": reason.to_string(), "let_in_by": reason.remedy(name) })
    });
    json!({
        "passes": passes.collect::<Vec<_>>(),
        "delivered": delivered_names,
        "left_out": left_out.collect::<Vec<_>>(),
        "absent": selection.absent().map(OsStr::to_string_lossy).collect::<Vec<_>>(),
        "duplicates": selection.duplicates().map(OsStr::to_string_lossy).collect::<Vec<_>>(),
        "malformed": selection.malformed(),
    })
}

fn text(selection: &Selection, delivered: &[OsString]) -> String {
    let told = |name: &OsStr| name.to_string_lossy().into_owned();
    let mut passes = Table::new(&["PASSES", "FROM"]);
    for passed in selection.passed().filter(|passed| !is_replaced(passed.name, delivered)) {
        passes.row([told(passed.name), passed.origin.to_string()]);
    }
    for name in delivered {
        passes.row([told(name), "the token".to_owned()]);
    }
    let mut left_out = Table::new(&["LEFT OUT", "WHY", "LET IN BY"]);
    for (name, reason) in selection.left_out() {
        left_out.row([told(name), reason.to_string(), reason.remedy(name)]);
    }
    let mut odd = Table::new(&["ODD", "WHY"]);
    selection.absent().for_each(|name| odd.row([told(name), "asked for, and not there".to_owned()]));
    selection.duplicates().for_each(|name| odd.row([told(name), "there more than once: the first counts".to_owned()]));
    [passes, left_out, odd].iter().filter(|table| !table.is_empty()).map(Table::render).collect::<Vec<_>>().join("\n")
}

/// The launcher sets the token's variables last.
fn is_replaced(name: &OsStr, delivered: &[OsString]) -> bool {
    delivered.iter().any(|delivered| delivered == name)
}
