//! Where secrets lie: names, with who put them there.
//!
//! In namespaces none of a home is shown unless somebody asked for it, so this list is what stays hidden then, within
//! what was asked for.

/// Below a home.
pub(crate) const OF_A_HOME: &[&str] = &[
    ".ssh",                       // ssh(1), FILES
    ".gnupg",                     // gpg(1), --homedir
    ".pki",                       // NSS, shared database
    ".password-store",            // pass(1)
    ".netrc",                     // curl(1), ftp(1)
    ".git-credentials",           // git-credential-store(1)
    ".config/git/credentials",    // the same
    ".aws",                       // AWS CLI, configuration and credential files
    ".azure",                     // Azure CLI, AZURE_CONFIG_DIR
    ".config/gcloud",             // gcloud, CLOUDSDK_CONFIG
    ".config/gh",                 // GitHub CLI
    ".config/glab-cli",           // GitLab CLI
    ".config/hub",                // hub(1)
    ".config/doctl",              // DigitalOcean
    ".config/hcloud",             // Hetzner
    ".oci",                       // Oracle Cloud
    ".bluemix",                   // IBM Cloud
    ".aliyun",                    // Alibaba Cloud
    ".fly",                       // flyctl
    ".config/heroku",             // Heroku CLI
    ".kube",                      // kubectl
    ".config/helm",               // Helm, registry credentials
    ".docker",                    // docker login
    ".config/containers",         // podman login
    ".terraform.d",               // terraform login
    ".terraformrc",               // the same
    ".vault-token",               // HashiCorp Vault
    ".config/op",                 // 1Password CLI
    ".config/Bitwarden CLI",      // Bitwarden CLI
    ".config/rclone",             // rclone
    ".config/sops",               // sops, age keys
    ".config/age",                // age
    ".npmrc",                     // npm
    ".yarnrc.yml",                // yarn
    ".pypirc",                    // twine
    ".config/pip",                // pip, index URLs with passwords
    ".pip",                       // the same
    ".config/pypoetry",           // poetry
    ".cargo/credentials",         // cargo login
    ".cargo/credentials.toml",    // the same
    ".gem/credentials",           // gem signin
    ".config/composer/auth.json", // composer
    ".m2",                        // Maven, settings.xml
    ".gradle/gradle.properties",  // Gradle
    ".nuget",                     // NuGet
    ".huggingface",               // huggingface-cli
    ".cache/huggingface/token",   // the same
    ".claude",                    // Claude Code
    ".claude.json",               // the same
    ".codex",                     // Codex CLI
    ".gemini",                    // Gemini CLI
    ".config/github-copilot",     // Copilot
    ".config/openai",             // OpenAI
    ".config/blindferry",         // ours
    ".pgpass",                    // libpq
    ".my.cnf",                    // MySQL
    ".mylogin.cnf",               // the same
    ".s3cfg",                     // s3cmd
    ".boto",                      // gsutil
    ".config/msmtp",              // msmtp
    ".msmtprc",                   // the same
    ".mbsyncrc",                  // isync
    ".mutt",                      // mutt
    ".config/neomutt",            // the same
    ".weechat",                   // WeeChat
    ".irssi",                     // irssi
    ".mozilla",                   // Firefox: cookies, saved passwords
    ".thunderbird",               // Thunderbird
    ".config/google-chrome",      // Chrome: cookies, saved passwords
    ".config/chromium",           // Chromium
    ".config/BraveSoftware",      // Brave
    ".config/microsoft-edge",     // Edge
    ".config/vivaldi",            // Vivaldi
    ".config/opera",              // Opera
    ".config/Slack",              // Slack
    ".config/Signal",             // Signal
    ".config/discord",            // Discord
    ".local/share/keyrings",      // GNOME Keyring
    ".local/share/kwalletd",      // KWallet
    ".local/share/containers",    // podman: images and secrets
    ".config/keepassxc",          // KeePassXC
    ".electrum",                  // wallets
    ".bitcoin",                   // the same
    ".ethereum",                  // the same
    ".bash_history",              // what was typed may hold secrets
    ".zsh_history",               // the same
    ".python_history",            // the same
    ".psql_history",              // the same
    ".mysql_history",             // the same
    ".node_repl_history",         // the same
    ".Xauthority",                // xauth(1): the cookie of the display
    ".ICEauthority",              // the same of sessions
];

/// Of the machine. Most belong to root, and are hidden for the day on which root runs a program in here.
pub(crate) const OF_THE_SYSTEM: &[&str] = &[
    "/etc/shadow",                            // shadow(5)
    "/etc/shadow-",                           // the same
    "/etc/gshadow",                           // gshadow(5)
    "/etc/gshadow-",                          // the same
    "/etc/security/opasswd",                  // pam_pwhistory(8)
    "/etc/ssh/ssh_host_dsa_key",              // sshd(8), FILES
    "/etc/ssh/ssh_host_rsa_key",              // the same
    "/etc/ssh/ssh_host_ecdsa_key",            // the same
    "/etc/ssh/ssh_host_ed25519_key",          // the same
    "/etc/ssl/private",                       // Debian's ssl-cert
    "/etc/pki/tls/private",                   // Fedora
    "/etc/letsencrypt",                       // certbot
    "/etc/krb5.keytab",                       // Kerberos
    "/etc/wireguard",                         // wg-quick(8)
    "/etc/openvpn",                           // OpenVPN
    "/etc/ipsec.secrets",                     // ipsec.secrets(5)
    "/etc/swanctl",                           // swanctl(8)
    "/etc/NetworkManager/system-connections", // NetworkManager
    "/etc/wpa_supplicant",                    // wpa_supplicant.conf(5)
    "/etc/kubernetes",                        // kubeadm
    "/etc/rancher",                           // k3s
    "/etc/docker",                            // dockerd
    "/etc/containers/auth.json",              // containers
    "/etc/cloud",                             // cloud-init: user data
    "/etc/credstore",                         // systemd.exec(5)
    "/etc/credstore.encrypted",               // the same
    "/etc/apt/auth.conf",                     // apt_auth.conf(5)
    "/etc/apt/auth.conf.d",                   // the same
    "/etc/sudoers",                           // sudoers(5)
    "/etc/sudoers.d",                         // the same
    "/etc/msmtprc",                           // msmtp
    "/etc/exim4/passwd.client",               // exim
    "/etc/postfix/sasl_passwd",               // Postfix
    "/etc/mysql/debian.cnf",                  // Debian's MySQL
    "/etc/boto.cfg",                          // boto
    "/etc/blindferry",                        // ours
];

/// Files of this name, wherever they lie within a directory that the program is given.
pub(crate) fn is_secret_by_name(name: &str) -> bool {
    NAMES.contains(&name) || (name.starts_with(".env.") && !EXAMPLES.iter().any(|end| name.ends_with(end)))
}

const NAMES: &[&str] = &[
    ".env",             // dotenv
    ".envrc",           // direnv
    ".netrc",           // curl(1)
    ".git-credentials", // git-credential-store(1)
    ".pypirc",          // twine
    ".pgpass",          // libpq
    "id_rsa",           // ssh-keygen(1)
    "id_dsa",           // the same
    "id_ecdsa",         // the same
    "id_ed25519",       // the same
    "id_ecdsa_sk",      // the same
    "id_ed25519_sk",    // the same
];

/// What is meant to be copied and filled in.
const EXAMPLES: &[&str] = &[".example", ".sample", ".template", ".dist", ".defaults"];

/// What of a home holds programs and no secret: shown, to be read, where it is there.
pub(crate) const TOOLS_OF_A_HOME: &[&str] = &[
    "bin",
    ".local/bin",
    ".local/lib",
    ".local/share/mise",
    ".local/share/uv",
    ".local/share/pnpm",
    ".cargo/bin",
    ".rustup",
    ".pyenv",
    ".rbenv",
    ".nvm",
    ".volta",
    ".asdf",
    ".sdkman",
    ".deno/bin",
    ".bun/bin",
    ".nix-profile",
    "go/bin",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_filled_in_env_is_a_secret_and_an_example_is_not() {
        for name in [".env", ".env.local", ".env.production", ".envrc", "id_ed25519"] {
            assert!(is_secret_by_name(name), "{name}");
        }
        for name in [".env.example", ".env.sample", ".environment", "env", "id_ed25519.pub"] {
            assert!(!is_secret_by_name(name), "{name}");
        }
    }

    #[test]
    fn no_place_is_listed_twice_and_no_tool_lies_in_a_secret_place() {
        let distinct: BTreeSet<_> = OF_A_HOME.iter().chain(OF_THE_SYSTEM).collect();
        assert_eq!(distinct.len(), OF_A_HOME.len() + OF_THE_SYSTEM.len());
        for tool in TOOLS_OF_A_HOME {
            assert!(!OF_A_HOME.iter().any(|secret| std::path::Path::new(tool).starts_with(secret)), "{tool}");
        }
        assert!(OF_THE_SYSTEM.iter().all(|path| path.starts_with('/')));
    }
}
