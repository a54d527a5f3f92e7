//! What a person asks to be delivered, as `run` is told it: which credential, in which form, found by which variable.

use blindferry_environment::{descriptor_variable, file_variable};
use blindferry_proto::name::{BadName, CredentialName};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::str::FromStr;

/// `NAME` or `NAME:FORM`.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    name: CredentialName,
    /// The launcher knows which there are.
    form: Option<String>,
}

impl Wish {
    /// As the launcher's `--deliver` has it.
    pub(crate) fn as_delivery(&self) -> Option<OsString> {
        self.form.as_ref().map(|form| format!("{}={form}", self.name.as_str()).into())
    }
}

impl FromStr for Wish {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let (name, form) = text.split_once(':').map_or((text, None), |(name, form)| (name, Some(form)));
        Ok(Self { name: name.parse()?, form: form.map(str::to_owned) })
    }
}

/// Each credential once, in the order in which they were first named: one grant each.
pub(crate) fn of_wishes(wishes: &[Wish]) -> Vec<CredentialName> {
    let mut names: Vec<CredentialName> = Vec::new();
    for Wish { name, .. } in wishes {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// The variables by which a program would find its tokens, or that are a token. A form that there is not is refused by
/// the launcher; which credentials a template embeds is for the launcher to read.
pub(crate) fn delivered(names: &[CredentialName], forms: &[OsString], templates: &[OsString]) -> Vec<OsString> {
    let mut variables = Vec::new();
    let mut bare = names.to_vec();
    for form in forms.iter().filter_map(|form| form.to_str()) {
        let named = form.split_once('=').and_then(|(name, form)| Some((name.parse::<CredentialName>().ok()?, form)));
        let (name, form) = match (named, names) {
            (Some((name, form)), _) => (name, form),
            (None, [only]) => (only.clone(), form),
            (None, _) => continue,
        };
        bare.retain(|bare| *bare != name);
        variables.extend(variable(name.as_str(), form));
    }
    for template in templates.iter().filter_map(|template| template.to_str()) {
        for (at, _) in template.match_indices(':') {
            let (source, form) = template.split_at_checked(at).unwrap_or_default();
            let source = Path::new(source).file_name().and_then(OsStr::to_str).unwrap_or_default();
            variables.extend(variable(source, form.trim_start_matches(':')));
        }
    }
    if templates.is_empty() {
        variables.extend(bare.iter().map(|name| file_variable(name.as_str())));
    }
    variables
}

fn variable(name: &str, form: &str) -> Option<OsString> {
    match form {
        "pipe" | "memfd" => Some(file_variable(name)),
        "descriptor" => Some(descriptor_variable(name)),
        "credentials-directory" => Some("CREDENTIALS_DIRECTORY".into()),
        _ => form.strip_prefix("env:").map(OsString::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(wishes: &[&str], deliver: &[&str], templates: &[&str]) -> Vec<OsString> {
        let wishes: Vec<Wish> = wishes.iter().map(|wish| wish.parse().unwrap()).collect();
        let forms: Vec<_> =
            wishes.iter().filter_map(Wish::as_delivery).chain(deliver.iter().map(OsString::from)).collect();
        let templates: Vec<_> = templates.iter().map(OsString::from).collect();
        delivered(&of_wishes(&wishes), &forms, &templates)
    }

    #[test]
    fn the_variables_are_those_that_the_launcher_sets() {
        assert_eq!(found(&["a-b"], &[], &[]), ["A_B_FILE"]);
        assert_eq!(found(&["a"], &["env:X"], &[]), ["X"]);
        assert_eq!(found(&["a:env:X", "b", "a:file:/x"], &["b=descriptor"], &[]), ["X", "B_FD"]);
        assert_eq!(found(&["a", "b:credentials-directory"], &[], &[]), ["CREDENTIALS_DIRECTORY", "A_FILE"]);
        assert_eq!(found(&["a"], &[], &["/etc/app.toml:memfd"]), ["APP_TOML_FILE"]);
    }

    #[test]
    fn one_credential_in_two_forms_is_one_grant() {
        let wishes = ["a:memfd", "b", "a:env:X"].map(|wish| wish.parse().unwrap());
        assert_eq!(of_wishes(&wishes).iter().map(CredentialName::as_str).collect::<Vec<_>>(), ["a", "b"]);
        assert!("A B".parse::<Wish>().is_err());
    }
}
