//! How much of an environment is looked at. What execve(2) takes, or less.

/// Variables that are looked at; the 1 MiB or so of a usual limit on the stack holds fewer of any real length.
pub const MAX_VARIABLES: usize = 16_384;

/// The longest name, in bytes. npm's, which hold the path of a registry, are the longest that people use.
pub const MAX_NAME: usize = 1024;

/// The longest `NAME=VALUE`, in bytes, without the NUL behind it: Linux's MAX_ARG_STRLEN, 32 pages of 4 KiB
/// (execve(2), "Limits on size of arguments and environment").
pub const MAX_ASSIGNMENT: usize = 32 * 4096 - 1;

/// What may pass in all, in bytes, a NUL behind each: a third of the least that Linux ever promises to take, so that
/// arguments fit beside it (execve(2): a quarter of the limit on the stack, at most three quarters of 8 MiB).
pub const MAX_TOTAL: usize = 2 * 1024 * 1024;
