//! What shall be delivered in which form: put together from the command line, and checked whole before anything is touched.

use crate::deliver::form::{BadForm, Form};
use blindferry_environment::{descriptor_variable, file_variable};
use blindferry_launch::template::{Template, TemplateError};
use blindferry_proto::name::CredentialName;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::str::FromStr;

/// `N` or `N=NAME`: the descriptor of a grant, and what its credential is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GrantAt {
    pub(crate) number: RawFd,
    pub(crate) name: Option<CredentialName>,
}

/// `FORM` or `NAME=FORM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    name: Option<CredentialName>,
    form: Form,
}

/// `SOURCE:FORM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemplateWish {
    source: PathBuf,
    form: Form,
}

/// Everything that is to be delivered. Names are distinct, and nothing has two contents.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Whose tokens, in the order of their redemption.
    pub(crate) credentials: Vec<CredentialName>,
    /// What goes where.
    pub(crate) pieces: Vec<Piece>,
}

/// One content in one form.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) content: Content,
    pub(crate) form: Form,
    /// What the content is called: the credential, or the template's file.
    pub(crate) name: String,
}

/// What is delivered.
#[derive(Debug)]
pub(crate) enum Content {
    /// The token of the credential with this index.
    Token(usize),
    /// A file with tokens in it.
    Rendered(Template),
}

impl Plan {
    /// # Errors
    /// [`BadPlan`]. A template's file was read by then, and nothing else was done.
    pub(crate) fn new(
        credentials: Vec<CredentialName>,
        wishes: &[Wish],
        templates: &[TemplateWish],
    ) -> Result<Self, BadPlan> {
        let mut plan = Self { credentials, pieces: Vec::new() };
        let distinct: BTreeSet<_> = plan.credentials.iter().map(CredentialName::as_str).collect();
        if distinct.len() != plan.credentials.len() {
            return Err(BadPlan::TwiceTheSame);
        }
        for Wish { name, form } in wishes {
            let index = match name {
                Some(name) => plan.index(name.as_str())?,
                None if plan.credentials.len() == 1 => 0,
                None => return Err(BadPlan::WhichCredential),
            };
            plan.add(Content::Token(index), form.clone())?;
        }
        for TemplateWish { source, form } in templates {
            let template = Template::read(source).map_err(|error| BadPlan::Template { source: error })?;
            template.bind(|name| plan.index(name).map(drop))?;
            plan.add(Content::Rendered(template), form.clone())?;
        }
        let unwanted: Vec<_> = (0..plan.credentials.len())
            .filter(|index| !plan.pieces.iter().any(|piece| plan.holds(piece, *index)))
            .collect();
        for index in unwanted {
            plan.add(Content::Token(index), Form::Pipe)?;
        }
        plan.check()?;
        Ok(plan)
    }

    /// The index of a credential by its name.
    pub(crate) fn index(&self, name: &str) -> Result<usize, BadPlan> {
        let found = self.credentials.iter().position(|known| known.as_str() == name);
        found.ok_or_else(|| BadPlan::NoSuchCredential { name: name.to_owned() })
    }

    fn add(&mut self, content: Content, form: Form) -> Result<(), BadPlan> {
        let name = match &content {
            Content::Token(index) => self.credentials.get(*index).map_or("", CredentialName::as_str).to_owned(),
            Content::Rendered(_) if form == Form::Descriptor => return Err(BadPlan::TemplateAsDescriptor),
            Content::Rendered(template) => template.name().to_owned(),
        };
        self.pieces.push(Piece { content, form, name });
        Ok(())
    }

    /// Whether what is delivered is, or embeds, the token of this credential.
    pub(crate) fn holds(&self, piece: &Piece, credential: usize) -> bool {
        match &piece.content {
            Content::Token(index) => *index == credential,
            Content::Rendered(template) => {
                let name = self.credentials.get(credential).map(CredentialName::as_str);
                template.names().any(|embedded| Some(embedded) == name)
            }
        }
    }

    /// Refuses when there is nothing that a renewal could reach.
    pub(crate) fn renewable(&self) -> Result<(), BadPlan> {
        let reachable = self.pieces.iter().any(|piece| piece.form.is_re_readable());
        reachable.then_some(()).ok_or(BadPlan::NothingToRenew)
    }

    fn check(&self) -> Result<(), BadPlan> {
        if self.pieces.iter().filter(|piece| piece.form == Form::Stdin).count() > 1 {
            return Err(BadPlan::TwoStdins);
        }
        let mut variables = BTreeSet::new();
        let mut files = BTreeSet::new();
        for piece in &self.pieces {
            // All files of the directory share one variable.
            let variable = piece.variable().filter(|_| piece.form != Form::Directory);
            if let Some(variable) = variable
                && !variables.insert(variable.clone())
            {
                return Err(BadPlan::TwiceTheVariable { name: variable });
            }
            let file = match &piece.form {
                Form::File(path) => Some(path.clone()),
                Form::Directory => Some(piece.name.clone().into()),
                _ => None,
            };
            if let Some(file) = file
                && !files.insert(file.clone())
            {
                return Err(BadPlan::TwiceTheFile { path: file });
            }
        }
        Ok(())
    }
}

impl Piece {
    /// The variable by which the program finds it, if there is one.
    pub(crate) fn variable(&self) -> Option<OsString> {
        match &self.form {
            Form::Pipe | Form::Memfd => Some(file_variable(&self.name)),
            Form::Descriptor => Some(descriptor_variable(&self.name)),
            Form::Directory => Some(OsStr::new(DIRECTORY_VARIABLE).to_owned()),
            Form::Variable(name) => Some(name.clone()),
            Form::Stdin | Form::File(_) => None,
        }
    }
}

impl FromStr for GrantAt {
    type Err = BadPlan;
    fn from_str(text: &str) -> Result<Self, BadPlan> {
        let (number, name) = match text.split_once('=') {
            Some((number, name)) => (number, Some(name.parse().map_err(|_| BadPlan::Grant)?)),
            None => (text, None),
        };
        match number.parse() {
            Ok(number) if number >= 3 => Ok(Self { number, name }),
            _ => Err(BadPlan::Grant),
        }
    }
}

impl FromStr for Wish {
    type Err = BadForm;
    fn from_str(text: &str) -> Result<Self, BadForm> {
        if let Some((name, form)) = text.split_once('=')
            && let Ok(name) = name.parse()
        {
            return Ok(Self { name: Some(name), form: form.parse()? });
        }
        Ok(Self { name: None, form: text.parse()? })
    }
}

impl FromStr for TemplateWish {
    type Err = BadForm;
    fn from_str(text: &str) -> Result<Self, BadForm> {
        // The first colon with a form behind it: paths may have some too.
        let mut told = BadForm::Unknown;
        for (at, _) in text.match_indices(':').filter(|(at, _)| *at > 0) {
            let (source, form) = text.split_at_checked(at).unwrap_or_default();
            match form.trim_start_matches(':').parse() {
                Ok(form) => return Ok(Self { source: source.into(), form }),
                Err(BadForm::Unknown) => {}
                Err(error) => told = error,
            }
        }
        Err(told)
    }
}

/// The forms of delivery make no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadPlan {
    #[error("a grant is N or N=NAME, N being a descriptor from 3 on")]
    Grant,
    #[error("several grants: which is whose? --grant-fd N=NAME")]
    NamelessGrant,
    #[error("the same credential twice")]
    TwiceTheSame,
    #[error("several credentials: which one? --deliver NAME=FORM")]
    WhichCredential,
    #[error("there is no credential {name} among those asked for")]
    NoSuchCredential { name: String },
    #[error("{} would name two things: choose one", name.display())]
    TwiceTheVariable { name: OsString },
    #[error("{} would be two files: choose one", path.display())]
    TwiceTheFile { path: PathBuf },
    #[error("there is one standard input")]
    TwoStdins,
    #[error("a template has no life of its own to tell: no descriptor")]
    TemplateAsDescriptor,
    #[error("nothing that was asked for can be read again: --renew takes memfd, file:PATH or credentials-directory")]
    NothingToRenew,
    #[error("cannot use the template")]
    Template { source: TemplateError },
}

/// As systemd calls it (systemd.exec(5), credentials).
pub(crate) const DIRECTORY_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(names: &[&str], wishes: &[&str]) -> Result<Plan, BadPlan> {
        let names = names.iter().map(|name| name.parse().unwrap()).collect();
        let wishes: Vec<Wish> = wishes.iter().map(|wish| wish.parse().unwrap()).collect();
        Plan::new(names, &wishes, &[])
    }

    fn forms(names: &[&str], wishes: &[&str]) -> Vec<(String, Form)> {
        plan(names, wishes).unwrap().pieces.into_iter().map(|piece| (piece.name, piece.form)).collect()
    }

    #[test]
    fn a_pipe_is_the_default_of_each_credential_that_nothing_else_was_said_of() {
        assert_eq!(forms(&["a"], &[]), [("a".into(), Form::Pipe)]);
        let both = forms(&["a", "b"], &["b=env:B"]);
        assert_eq!(both, [("b".into(), Form::Variable("B".into())), ("a".into(), Form::Pipe)]);
    }

    #[test]
    fn several_forms_go_together_and_what_excludes_each_other_is_refused() {
        assert_eq!(forms(&["a"], &["stdin", "env:A_1", "memfd", "file:/x", "credentials-directory"]).len(), 5);
        assert!(matches!(plan(&["a"], &["pipe", "memfd"]), Err(BadPlan::TwiceTheVariable { .. })));
        assert!(matches!(plan(&["a-b", "a.b"], &[]), Err(BadPlan::TwiceTheVariable { .. })));
        assert!(matches!(plan(&["a", "b"], &["a=env:X", "b=env:X"]), Err(BadPlan::TwiceTheVariable { .. })));
        assert!(matches!(plan(&["a", "b"], &["a=file:/x", "b=file:/x"]), Err(BadPlan::TwiceTheFile { .. })));
        assert!(matches!(plan(&["a", "b"], &["a=stdin", "b=stdin"]), Err(BadPlan::TwoStdins)));
        assert!(matches!(plan(&["a", "a"], &[]), Err(BadPlan::TwiceTheSame)));
        assert!(matches!(plan(&["a", "b"], &["memfd"]), Err(BadPlan::WhichCredential)));
        assert!(matches!(plan(&["a"], &["c=memfd"]), Err(BadPlan::NoSuchCredential { .. })));
    }

    #[test]
    fn a_wish_names_its_credential_before_the_form_and_a_path_may_hold_anything() {
        let wish = |text: &str| text.parse::<Wish>().unwrap();
        assert_eq!(wish("pipe=memfd"), Wish { name: Some("pipe".parse().unwrap()), form: Form::Memfd });
        assert_eq!(wish("file:/a=memfd"), Wish { name: None, form: Form::File("/a=memfd".into()) });
        assert_eq!(wish("a=file:/b=c"), Wish { name: Some("a".parse().unwrap()), form: Form::File("/b=c".into()) });
        assert!("a=nonsense".parse::<Wish>().is_err());
    }

    #[test]
    fn a_template_ends_where_its_form_begins() {
        let wish = |text: &str| text.parse::<TemplateWish>().map(|wish| (wish.source, wish.form));
        assert_eq!(wish("/a.toml:memfd"), Ok(("/a.toml".into(), Form::Memfd)));
        assert_eq!(wish("/a:b:file:/c:d"), Ok(("/a:b".into(), Form::File("/c:d".into()))));
        assert!(wish("/a.toml").is_err() && wish(":memfd").is_err());
    }

    #[test]
    fn the_worker_library_looks_where_the_launcher_puts_it() {
        for name in ["a", "deploy-key", "7.days_2"] {
            assert_eq!(descriptor_variable(name), *blindferry_worker::delivered::variable(name));
        }
    }

    #[test]
    fn a_grant_is_a_number_beyond_the_standard_streams_and_may_have_a_name() {
        assert_eq!("3".parse::<GrantAt>().unwrap(), GrantAt { number: 3, name: None });
        assert_eq!("4=a".parse::<GrantAt>().unwrap().name.unwrap().as_str(), "a");
        for bad in ["0", "2=a", "x", "3=", "=a", "-1"] {
            assert!(bad.parse::<GrantAt>().is_err(), "{bad}");
        }
    }
}
