//! The providers' names that the words do not find, and those that must be found whatever becomes of the words.

/// One provider.
pub(super) struct Provider {
    pub(super) name: &'static str,
    /// Names in any case, and beginnings with `*` behind them.
    pub(super) variables: &'static [&'static str],
    /// Where the provider says so.
    pub(super) source: &'static str,
}

const fn provider(name: &'static str, variables: &'static [&'static str], source: &'static str) -> Provider {
    Provider { name, variables, source }
}

#[rustfmt::skip] // one row a provider
pub(super) const PROVIDERS: &[Provider] = &[
    // Clouds. What of these is no credential has a switch, and that goes before a beginning.
    provider("AWS", &["AWS_*", "AMAZON_*", "BOTO_*"], "AWS SDKs and Tools Reference Guide, environment variables"),
    provider("Azure", &["AZURE_*", "ARM_*", "MSI_*", "IDENTITY_HEADER"], "Azure Identity client library; Terraform azurerm provider"),
    provider("Google Cloud", &["GOOGLE_*", "GCLOUD_*", "CLOUDSDK_*", "GCP_*", "FIREBASE_*"], "Application Default Credentials; gcloud topic configurations"),
    provider("Alibaba Cloud", &["ALIBABA_CLOUD_*", "ALICLOUD_*", "ALIYUN_*"], "Alibaba Cloud SDK, manage access credentials"),
    provider("Tencent Cloud", &["TENCENTCLOUD_*"], "Tencent Cloud CLI and SDK, environment variables"),
    provider("Oracle Cloud", &["OCI_*"], "OCI CLI environment variables"),
    provider("IBM Cloud", &["IBMCLOUD_*", "IC_API_KEY", "IAAS_CLASSIC_API_KEY"], "IBM Cloud CLI; Terraform IBM provider"),
    provider("OpenStack", &["OS_AUTH_*", "OS_PASSWORD", "OS_TOKEN", "OS_APPLICATION_CREDENTIAL_*"], "python-openstackclient, authentication"),
    provider("DigitalOcean", &["DIGITALOCEAN_*", "SPACES_*"], "doctl; Terraform digitalocean provider"),
    provider("Hetzner", &["HCLOUD_*", "HETZNER_*"], "hcloud CLI reference"),
    provider("Scaleway", &["SCW_*"], "Scaleway CLI, configuration"),
    provider("Cloudflare", &["CLOUDFLARE_*", "CF_API_*"], "wrangler, system environment variables; Terraform cloudflare provider"),
    provider("Fly.io", &["FLY_*"], "flyctl, access tokens"),
    provider("Heroku", &["HEROKU_*"], "Heroku CLI authentication"),
    provider("Vercel", &["VERCEL_*"], "Vercel CLI, global options"),
    provider("Netlify", &["NETLIFY_*"], "Netlify CLI, get started"),

    // Code and its registries.
    provider("GitHub", &["GITHUB_TOKEN", "GH_TOKEN", "GITHUB_ENTERPRISE_TOKEN", "GH_ENTERPRISE_TOKEN", "GITHUB_PAT", "ACTIONS_*", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STATE"], "gh help environment; GitHub Actions, OpenID Connect and workflow commands"),
    provider("GitLab", &["GITLAB_*", "CI_JOB_TOKEN", "CI_JOB_JWT*", "CI_DEPLOY_*", "CI_REGISTRY_*", "CI_BUILD_TOKEN", "CI_REPOSITORY_URL"], "GitLab, predefined CI/CD variables; glab"),
    provider("Bitbucket", &["BITBUCKET_*"], "Bitbucket Pipelines, variables and secrets"),
    provider("Azure DevOps", &["SYSTEM_ACCESSTOKEN", "AZP_*"], "Azure Pipelines, predefined variables"),
    provider("CircleCI, Travis, Buildkite, Drone", &["CIRCLE_*", "TRAVIS_*", "BUILDKITE_*", "DRONE_*"], "their references of environment variables"),
    provider("npm", &["NPM_TOKEN", "NODE_AUTH_TOKEN", "npm_config_//*", "npm_config__auth*"], "npm config, auth-related configuration"),
    provider("PyPI", &["TWINE_*", "UV_PUBLISH_*", "UV_INDEX_*", "POETRY_HTTP_BASIC_*", "POETRY_PYPI_TOKEN_*", "FLIT_*"], "twine, uv, Poetry and Flit, environment variables"),
    provider("crates.io", &["CARGO_REGISTRY_TOKEN", "CARGO_REGISTRIES_*"], "cargo, environment variables"),
    provider("Go modules", &["GOAUTH"], "go help goauth"),
    provider("Bundler", &["BUNDLE_GITHUB__COM", "BUNDLE_GEMS__*", "GEM_HOST_API_KEY", "RUBYGEMS_*"], "bundle config, credentials for gem sources"),
    provider("Maven, Gradle, NuGet", &["ORG_GRADLE_PROJECT_*", "MAVEN_GPG_PASSPHRASE", "NUGET_AUTH*", "NUGET_CREDENTIALPROVIDER_*", "NuGetPackageSourceCredentials_*", "VSS_NUGET_*"], "Gradle, project properties; NuGet, credentials"),
    provider("Composer", &["COMPOSER_AUTH"], "Composer, COMPOSER_AUTH"),
    provider("Containers", &["DOCKER_AUTH_CONFIG", "DOCKERHUB_*", "REGISTRY_AUTH", "QUAY_*", "BUILDAH_*"], "GitLab runner, DOCKER_AUTH_CONFIG; containers-auth.json(5)"),

    // Infrastructure and secrets.
    provider("Terraform", &["TF_TOKEN_*", "TF_VAR_*", "TF_CLI_CONFIG_FILE", "TF_HTTP_*", "TFE_*"], "Terraform CLI, environment variable credentials and input variables"),
    provider("Pulumi", &["PULUMI_*"], "Pulumi CLI, environment variables"),
    provider("Vault, Consul, Nomad, Boundary", &["VAULT_*", "BAO_*", "CONSUL_*", "NOMAD_*", "BOUNDARY_*"], "their CLIs, environment variables"),
    provider("1Password", &["OP_*"], "1Password CLI, environment variables"),
    provider("Bitwarden", &["BW_*", "BWS_*"], "bw and bws, environment variables"),
    provider("Doppler, Infisical, Keeper, Akeyless", &["DOPPLER_*", "INFISICAL_*", "KSM_*", "AKEYLESS_*"], "their CLIs, environment variables"),
    provider("SOPS and age", &["SOPS_*", "AGE_*", "PASSAGE_*"], "sops, README; age(1)"),
    provider("Ansible", &["ANSIBLE_VAULT_*", "ANSIBLE_BECOME_*", "ANSIBLE_NET_*"], "Ansible configuration settings"),
    provider("Argo CD, Rancher, Teleport, Tailscale", &["ARGOCD_*", "RANCHER_*", "TELEPORT_*", "TS_AUTH*", "TS_API_*"], "their CLIs, environment variables"),
    provider("Restic, Borg, rclone", &["RESTIC_*", "BORG_*", "RCLONE_*", "B2_*"], "their manuals, environment variables"),
    provider("systemd", &["CREDENTIALS_DIRECTORY"], "systemd.exec(5), credentials"),

    // Data.
    provider("URLs of databases", &["DATABASE_URL", "DB_URL", "POSTGRES_URL*", "POSTGRESQL_URL", "MYSQL_URL", "MONGO_URL", "MONGODB_URL", "MONGODB_URI", "MONGO_URI", "REDIS_URL", "REDISCLOUD_URL", "REDIS_TLS_URL", "AMQP_URL", "CLOUDAMQP_URL", "RABBITMQ_URL", "ELASTICSEARCH_URL", "CLICKHOUSE_URL", "CELERY_BROKER_URL", "BROKER_URL", "JDBC_DATABASE_URL", "CLEARDB_DATABASE_URL", "JAWSDB_URL"], "The Twelve-Factor App, backing services; Heroku, add-ons"),
    provider("PostgreSQL", &["PGPASSFILE", "PGSERVICE", "PGSERVICEFILE", "PGSSLKEY"], "libpq, environment variables"),
    provider("Snowflake, Databricks", &["SNOWFLAKE_*", "DATABRICKS_*"], "SnowSQL and Databricks unified authentication"),
    provider("Hugging Face, Weights & Biases, Kaggle", &["HF_TOKEN*", "HUGGING_FACE_*", "WANDB_*", "KAGGLE_*"], "huggingface_hub, wandb and kaggle, environment variables"),

    // Services.
    provider("Models", &["ANTHROPIC_*", "OPENAI_*", "GEMINI_*", "CLAUDE_CODE_OAUTH_*", "GIGACHAT_*", "QIANFAN_*"], "SDKs of Anthropic, OpenAI, Google, Sber and Baidu"),
    provider("Twilio", &["TWILIO_*"], "Twilio helper libraries"),
    provider("Slack, Discord, Telegram", &["SLACK_*", "DISCORD_*", "TELEGRAM_*"], "their SDKs, quick starts"),
    provider("Stripe", &["STRIPE_*"], "Stripe CLI, keys and permissions"),
    provider("Datadog, New Relic, Sentry, Honeycomb", &["DD_API_*", "DD_APP_*", "DATADOG_*", "NEW_RELIC_*", "SENTRY_*", "HONEYCOMB_*", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_*_HEADERS"], "their agents, environment variables; OpenTelemetry, OTLP exporter"),
    provider("Cloudinary, Mailgun, SendGrid", &["CLOUDINARY_*", "MAILGUN_*", "SENDGRID_*"], "their SDKs, configuration"),
    provider("Atlassian", &["JIRA_*", "ATLASSIAN_*", "CONFLUENCE_*"], "Atlassian Python API and acli"),
    provider("SMTP", &["SMTP_*", "MAIL_*", "EMAIL_HOST_*"], "Rails Action Mailer, Laravel mail, Django e-mail settings"),

    // Files and agents of people.
    provider("netrc and tickets", &["NETRC", "KRB5CCNAME", "KRB5_KTNAME", "KRB5_CLIENT_KTNAME"], "curl(1), kerberos(7)"),
    provider("SSH and sudo", &["SSH_USER_AUTH", "SSH_PRIVATE_*", "SUDO_PASS*"], "sshd_config(5), ExposeAuthInfo"),
];
