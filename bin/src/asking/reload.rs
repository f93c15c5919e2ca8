//! `punchline reload`: a node reads its files again, and says what came of it.

use tonic::Code;

use crate::{
    cli,
    control::{self, proto::ReloadRequest},
    stop,
};

/// Asks it to, and prints what it read.
///
/// # Errors
/// If no node answers, or what is in its files cannot be used; then nothing changed.
pub(super) async fn run(settings: cli::Reload) -> anyhow::Result<()> {
    let asked = async {
        let mut node = control::ask(&settings.asking).await?;
        Ok::<_, anyhow::Error>(node.reload(ReloadRequest {}).await)
    };
    let answer = tokio::select! {
        answer = asked => answer?,
        () = stop::told() => anyhow::bail!("told to stop before the node answered"),
    };
    let read = match answer {
        Ok(answer) => answer.into_inner().read,
        Err(error) if error.code() == Code::FailedPrecondition => {
            anyhow::bail!("{}; nothing changed", error.message())
        }
        Err(error) => return Err(super::refused(&error)),
    };
    if read.is_empty() {
        return crate::print_line("the node has no file that can be read again");
    }
    read.iter().try_for_each(|line| crate::print_line(line))
}
