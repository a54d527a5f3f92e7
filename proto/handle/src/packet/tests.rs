//! What packets promise, and what a peer that breaks the rules gets.

use super::*;
