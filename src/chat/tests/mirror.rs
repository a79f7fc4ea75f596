//! Rooms that are decided elsewhere.

mod differential;
mod tape;

use std::collections::HashMap;

use super::*;
