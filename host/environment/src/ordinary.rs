//! The variables that every program gets: what it needs to find files, speak the user's language and know its terminal.
//!
//! Sources: POSIX.1-2024 chapter 8 (`COLUMNS` to `TZ`), environ(7), gettext's manual (`LANGUAGE`), the XDG base directory
//! specification, no-color.org and the terminals' own documents (`COLORTERM` to `TERM_PROGRAM_VERSION`).

/// Names, and one beginning.
pub const ORDINARY: &[&str] = &[
    // Who and where.
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "SHLVL",
    "PWD",
    "OLDPWD",
    "HOSTNAME",
    // Where files go.
    "TMPDIR",
    "TMP",
    "TEMP",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_DIRS",
    "XDG_CONFIG_HOME",
    "XDG_DATA_DIRS",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    // Language and time.
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    // The terminal.
    "TERM",
    "COLORTERM",
    "COLORFGBG",
    "TERM_PROGRAM",
    "TERM_PROGRAM_VERSION",
    "NO_COLOR",
    "FORCE_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "LS_COLORS",
    "COLUMNS",
    "LINES",
    "GPG_TTY",
];
