//! What a value gives away: a URL with a password in it, a private key, a token of a documented form.
//!
//! The second look, for what passes by its name: `https_proxy=http://user:password@proxy`. It finds what is plain to
//! see, and is no scanner of secrets.

/// Beginnings of tokens, as their issuers document them so that scanners can find them: GitHub, GitLab, Slack, Anthropic,
/// OpenAI, Hugging Face, npm, PyPI, Docker, DigitalOcean, HashiCorp Vault, SendGrid, age.
const BEGINNINGS: &[&str] = &[
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xapp-",
    "sk-ant-",
    "sk-proj-",
    "hf_",
    "npm_",
    "pypi-",
    "dckr_pat_",
    "dop_v1_",
    "hvs.",
    "hvb.",
    "SG.",
    "AGE-SECRET-KEY-1",
];

/// Shorter than that, nothing is a token, and no name of a user in a URL.
const SHORTEST_TOKEN: usize = 20;

/// Whether `value` plainly holds a credential. Time grows with its length alone.
#[must_use]
pub fn holds_credential(value: &[u8]) -> bool {
    let is_token = |beginning: &&str| value.starts_with(beginning.as_bytes()) && value.len() >= SHORTEST_TOKEN;
    BEGINNINGS.iter().any(is_token) || holds(value, b"PRIVATE KEY-----") || holds_url_with_password(value)
}

fn holds(value: &[u8], part: &[u8]) -> bool {
    value.windows(part.len()).any(|window| window == part)
}

/// RFC 3986 section 3.2.1: `user:password` between `//` and `@`. A name alone may be a token.
fn holds_url_with_password(value: &[u8]) -> bool {
    let mut rest = value;
    while let Some(at) = rest.windows(3).position(|window| window == b"://") {
        rest = rest.get(at + 3..).unwrap_or_default();
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#') || byte.is_ascii_whitespace());
        let authority = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        let Some(user) = authority.iter().rposition(|&byte| byte == b'@').and_then(|end| authority.get(..end)) else {
            // A password may hold what ends an authority, unescaped though it ought not to be.
            continue;
        };
        let has_password = user.iter().position(|&byte| byte == b':').is_some_and(|colon| colon + 1 < user.len());
        if has_password || user.len() >= SHORTEST_TOKEN {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_plainly_a_credential_is_found() {
        for value in [
            "http://user:password@proxy:3128",
            "x=1 postgres://u:p@h/db",
            "https://a/ https://u:p@b/",
            "https://x-access-token-0123456789@github.com/",
            "ghp_0123456789abcdefghij",
            "-----BEGIN EC PRIVATE KEY-----\n",
        ] {
            assert!(holds_credential(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn what_is_plainly_none_is_not() {
        for value in [
            "",
            "://",
            "http://proxy:3128",
            "ssh://git@github.com/a:b",
            "https://a/b:c@d",
            "http://user:@proxy",
            "ghp_",
            "npm_modules",
            "/usr/bin:/bin",
        ] {
            assert!(!holds_credential(value.as_bytes()), "{value}");
        }
    }
}
