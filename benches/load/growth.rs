//! Placeholder.
use crate::Result;
use crate::options::Options;

pub fn measure(_options: &Options) -> Result<()> {
    Ok(())
}
