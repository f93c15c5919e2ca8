//! x
/// x
pub async fn run(_: bool) -> anyhow::Result<()> {
    Ok(())
}
