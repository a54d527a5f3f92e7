//! Names of credentials: those of providers, which no pattern would find, and the words that give the others away.

use crate::credential::provider::PROVIDERS;
use crate::pattern::matches_in_any_case;

mod provider;

/// Why a variable is taken for a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is a provider's.
    Provider(&'static str),
    /// This word is in its name.
    Word(&'static str),
}

/// Words that say it as the end of a longer one too: `AUTHTOKEN`, `PGPASSWORD`, `SSHKEY`.
const ENDS: &[&str] = &[
    "TOKEN",
    "TOKENS",
    "SECRET",
    "SECRETS",
    "PASSWORD",
    "PASSWORDS",
    "PASSWD",
    "PASSPHRASE",
    "PASSCODE",
    "PASS",
    "KEY",
    "KEYS",
    "CREDENTIAL",
    "CREDENTIALS",
    "CREDS",
    "COOKIE",
    "COOKIES",
    "CONNECTIONSTRING",
    "CONNECTIONSTRINGS",
];

/// Words that say it alone.
const WORDS: &[&str] = &[
    "AUTH",
    "AUTHORIZATION",
    "BEARER",
    "CRED",
    "CSRF",
    "DSN",
    "JWT",
    "JWK",
    "PAT",
    "PWD",
    "PEM",
    "PFX",
    "PIN",
    "OTP",
    "SAS",
    "WEBHOOK",
    "CONNSTR",
    "AK",
    "SK",
];

/// Two words, one behind the other, or one.
const PAIRS: &[(&str, &str, &str)] = &[
    ("CONNECTION", "STRING", "CONNECTION_STRING"),
    ("CONNECTION", "STRINGS", "CONNECTION_STRINGS"),
    ("SERVICE", "ACCOUNT", "SERVICE_ACCOUNT"),
];

/// Words that end as the above and mean something else.
const HARMLESS_WORDS: &[&str] = &["ASKPASS", "BYPASS", "COMPASS"];

/// Beginnings of names in which such a word means something else: the key of a pair of git's configuration.
const HARMLESS_NAMES: &[&str] = &["GIT_CONFIG_KEY_*"];

/// Why `name` is that of a credential, if it is.
///
/// Case does not matter; whatever is neither letter nor digit parts words, and digits at the end of a word are not
/// looked at: `npm_config_//registry.npmjs.org/:_authToken` and `API_KEY2` are credentials. Too many names are taken
/// for one rather than too few: `SORT_KEY` passes by `--inherit-credentials` too.
#[must_use]
pub fn why(name: &[u8]) -> Option<Why> {
    if let Some(provider) = PROVIDERS.iter().find(|p| p.variables.iter().any(|v| matches_in_any_case(v, name))) {
        return Some(Why::Provider(provider.name));
    }
    if HARMLESS_NAMES.iter().any(|harmless| matches_in_any_case(harmless, name)) {
        return None;
    }
    let upper = name.to_ascii_uppercase();
    let words: Vec<&[u8]> = upper.split(|byte| !byte.is_ascii_alphanumeric()).map(without_number).collect();
    words.iter().find_map(|word| telling(word)).or_else(|| words.windows(2).find_map(telling_pair)).map(Why::Word)
}

fn without_number(word: &[u8]) -> &[u8] {
    let end = word.iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |last| last + 1);
    word.get(..end).unwrap_or(word)
}

fn telling(word: &&[u8]) -> Option<&'static str> {
    if HARMLESS_WORDS.iter().any(|harmless| harmless.as_bytes() == *word) {
        return None;
    }
    let alone = WORDS.iter().find(|telling| telling.as_bytes() == *word);
    alone.or_else(|| ENDS.iter().find(|end| word.ends_with(end.as_bytes()))).copied()
}

fn telling_pair(pair: &[&[u8]]) -> Option<&'static str> {
    let [first, second] = pair else { return None };
    let is = |(a, b, _): &&(&str, &str, &str)| a.as_bytes() == *first && b.as_bytes() == *second;
    PAIRS.iter().find(is).map(|(_, _, name)| *name)
}

/// Providers: name, variables, source.
pub fn providers() -> impl Iterator<Item = (&'static str, &'static [&'static str], &'static str)> {
    PROVIDERS.iter().map(|provider| (provider.name, provider.variables, provider.source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_it_are_credentials() {
        for name in [
            "GITHUB_TOKEN",
            "GH_TOKEN",
            "OPENAI_API_KEY",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_ANYTHING",
            "TF_TOKEN_app_terraform_io",
            "TF_VAR_db",
            "npm_config_//registry.npmjs.org/:_authToken",
            "NPM_CONFIG_//registry.npmjs.org/:_authToken",
            "npm_config__auth",
            "PGPASSWORD",
            "MYSQL_PWD",
            "SSHPASS",
            "API_KEY2",
            "apiKey",
            "Token",
            "SLACK_WEBHOOK_URL",
            "SENTRY_DSN",
            "X-AUTHORIZATION",
            "AZURE_STORAGE_CONNECTION_STRING",
            "DATABASE_URL",
            "CARGO_REGISTRIES_MINE_TOKEN",
            "ASP__ConnectionStrings__Main",
            "MY\u{e9}_SECRET",
        ] {
            assert!(why(name.as_bytes()).is_some(), "{name}");
        }
    }

    #[test]
    fn names_that_do_not_say_it_are_none() {
        for name in ["PATH", "HOME", "KEYBOARD", "TOKENIZERS_PARALLELISM", "SSH_ASKPASS", "BYPASS", "", "_", "PATTERN"]
        {
            assert_eq!(why(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn each_provider_has_a_source_and_names_what_no_other_names() {
        let mut seen = std::collections::BTreeSet::new();
        for (name, variables, source) in providers() {
            assert!(!name.is_empty() && !variables.is_empty() && source.len() > 8, "{name}");
            for variable in variables {
                assert!(seen.insert(variable.to_ascii_uppercase()), "{name}: {variable}");
            }
        }
    }
}
