//! Does a value carry HTML that runs?
