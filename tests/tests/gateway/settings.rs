//! Many services and forwards in one process, as the settings file says.

use anyhow::Result;
use punchline_tests::process::Event;
use tokio::net::{TcpStream, UnixStream};

use crate::world::{
    ANY, LISTEN, NO_PEER, SOON, STOP, World, echoes, speaks, tcp_echo, unix_echo, unusable,
};

#[tokio::test]
async fn one_process_exposes_and_forwards_many_services() -> Result<()> {
    let world = World::new()?;
    let ((_relay, relay), path) = (world.relay().await?, world.text("echo.sock"));
    unix_echo(&path)?;
    let (left, right) = (world.peer_id("left").await?, world.peer_id("right").await?);
    let allowed = world.write("allowed", &right)?;
    let common = |name: &str| {
        let identity = world.text(name);
        format!(
            "relay = \"{relay}\"\nlisten = \"{LISTEN}\"\nidentity = \"{identity}\"\nevents = \"-\"\n"
        )
    };
    let left_file = format!(
        "{}[[expose]]\nservice = \"tcp\"\ntarget = \"{}\"\nallow = [\"{right}\"]\n\
         [[expose]]\nservice = \"unix\"\ntarget = \"unix:{path}\"\nallow_file = \"{allowed}\"\n",
        common("left"),
        tcp_echo().await?,
    );
    let right_file = format!(
        "{}[[expose]]\nservice = \"back\"\ntarget = \"{}\"\nallow-any = true\nmax_connections = 3\n\
         [[forward]]\npeer = \"{left}\"\nservice = \"tcp\"\nlocal = \"{ANY}\"\n\
         [[forward]]\npeer = \"{left}\"\nservice = \"unix\"\nlocal = \"unix:{}\"\n",
        common("right"),
        tcp_echo().await?,
        world.text("local.sock"),
    );
    let back = format!(
        "{left_file}[[forward]]\npeer = \"{right}\"\nservice = \"back\"\nlocal = \"{ANY}\"\nrelay = \"{relay}\"\n"
    );
    let mut programs = Vec::new();
    for (name, file) in [("left", &back), ("right", &right_file)] {
        let file = world.write(&format!("{name}.toml"), file)?;
        let launch = world.quiet(name, &["run", "--config", &file])?;
        programs.push(launch.spawn()?);
    }
    for program in &programs {
        program.wait_for("reservation_held", |_| true, SOON).await?;
    }
    for (program, service) in [(&programs[0], "back"), (&programs[1], "tcp")] {
        let is = |event: &Event| event.has("service", service);
        let listening = program.wait_for("forward_listening", is, SOON).await?;
        echoes(listening.text("local").unwrap_or_default()).await?;
    }
    speaks(UnixStream::connect(world.path("local.sock")).await?, b"over unix").await?;
    for program in &mut programs {
        assert!(program.terminate(STOP).await?.success(), "{}", program.report());
    }
    Ok(())
}

#[tokio::test]
async fn a_table_that_cannot_be_used_is_named_with_its_number() -> Result<()> {
    let world = World::new()?;
    let good = "[[expose]]\nservice = \"a\"\ntarget = \"b:1\"\nallow_any = true\n";
    let way = format!("peer = \"{NO_PEER}\"\naddr = \"/ip4/127.0.0.1/tcp/1\"\nservice = \"a\"\n");
    for (content, hints) in [
        (
            format!("{good}[[expose]]\nservice = \"b\"\ntraget = \"c:1\""),
            &["`traget` is not a setting of `[[expose]] number 2`"][..],
        ),
        (
            format!("{good}[[expose]]\nservice = \"b\"\nallow_any = true"),
            &["[[expose]] number 2", "--target"],
        ),
        (
            format!("{good}[[expose]]\nservice = \"b\"\ntarget = \"c\"\n"),
            &["[[expose]] number 2", "HOST:PORT or unix:PATH"],
        ),
        (format!("{good}{good}"), &["`a` is exposed twice"]),
        ("[[expose]]\nservice = \"b\"\ntarget = \"c:1\"\n".to_owned(), &["nobody may use `b`"]),
        (
            format!("{good}[[forward]]\nlocal = \"{ANY}\"\nservice = \"x\""),
            &["--peer is missing", "--ticket"],
        ),
        (format!("[[forward]]\n{way}"), &["[[forward]] number 1", "--local"]),
        (
            format!("[[forward]]\n{way}local = \"{ANY}\"\nfrob = 1"),
            &["`frob` is not a setting of `[[forward]] number 1`"],
        ),
        (format!("[[forward]]\n{way}local = {{ port = 1 }}"), &["`local` must be"]),
        (format!("[[forward]]\n{way}local = [1]"), &["`local` must be"]),
        ("[[serve]]\na = 1".to_owned(), &["`serve` is not a setting"]),
        ("listen = \"/ip4/127.0.0.1/tcp/0\"".to_owned(), &["nothing to run", "[[expose]]"]),
        ("[[expose]]\n".repeat(257), &["257 tables [[expose]]", "at most 256"]),
    ] {
        let file = world.write("settings.toml", &content)?;
        let output = world.quiet("node", &["run", "--check", "--config", &file])?.output(SOON).await?;
        unusable(&output, hints);
    }
    let file = world.write("settings.toml", &format!("{good}[[forward]]\n{way}local = \"{ANY}\"\n"))?;
    let output = world.quiet("node", &["run", "--check", "--config", &file])?.output(SOON).await?;
    assert_eq!(output.stdout, b"the settings are usable\n", "{output:?}");
    assert!(
        !world.path("node").exists() && !world.path("node.tickets").exists(),
        "a check leaves no trace"
    );
    Ok(())
}

#[tokio::test]
async fn tables_do_not_read_the_variables_of_the_commands() -> Result<()> {
    let world = World::new()?;
    let file = world.write("settings.toml", "[[expose]]\nservice = \"a\"\ntarget = \"b:1\"\n")?;
    let launch = world.quiet("node", &["run", "--check", "--config", &file])?;
    let output = launch.env("PUNCHLINE_ALLOW_ANY", "1").output(SOON).await?;
    unusable(&output, &["nobody may use `a`"]);
    // A command of its own does.
    let launch = world.quiet("node", &["expose", "--check"])?.env("PUNCHLINE_SERVICE", "a=b:1");
    let output = launch.env("PUNCHLINE_ALLOW_ANY", "1").output(SOON).await?;
    assert_eq!(output.stdout, b"the settings are usable\n", "{output:?}");
    Ok(())
}

#[tokio::test]
async fn a_name_is_resolved_at_both_ends() -> Result<()> {
    let world = World::new()?;
    let port = tcp_echo().await?.rsplit(':').next().unwrap_or_default().to_owned();
    let service = format!("echo=localhost:{port}");
    let exposing = world.expose("exposer", &["--service", &service, "--allow-any"]).await?;
    let forward = world.forward(&exposing, "echo", "localhost:0").await?;
    speaks(TcpStream::connect(&forward.local).await?, b"by name").await
}
