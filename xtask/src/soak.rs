//! `cargo xtask soak`.
pub fn soak(_: u32, _: u64, _: bool) -> anyhow::Result<()> {
    Ok(())
}
