//! Does a value carry SQL that breaks out of its place?
