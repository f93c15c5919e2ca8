//! The services that every gRPC tool knows, beside the program's own on the same stream.

use futures::stream;
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::{
    pb::v1::{
        ServerReflectionRequest,
        server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest,
        server_reflection_response::MessageResponse,
        server_reflection_server::{ServerReflection, ServerReflectionServer},
    },
    server::Builder,
};

use crate::{
    proto::test_server::TestServer,
    service::{Tester, payload},
    world::{Way, World, test_client, within},
};

const DESCRIPTOR: &[u8] = tonic::include_file_descriptor_set!("punchline_test_descriptor");
const NAME: &str = "punchline.test.Test";

/// Reflection, as the server mounts it.
pub(crate) fn reflection() -> ServerReflectionServer<impl ServerReflection> {
    Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .unwrap()
}

#[tokio::test]
async fn health_and_reflection_are_served_beside_the_program_on_one_stream() {
    let world = World::new(Way::Tcp).await;
    let (channel, mut streams) = world.watched_channel();
    let calls = async {
        tokio::join!(
            health_changes(&world, channel.clone()),
            reflected(channel.clone()),
            echoes(channel.clone()),
        )
    };
    let (health, (services, file), echoes) = within("all three", calls).await;
    assert_eq!(health, [ServingStatus::Serving, ServingStatus::NotServing, ServingStatus::Serving]);
    assert_eq!(services, ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", NAME]);
    assert!(file.windows(b"Converse".len()).any(|part| part == b"Converse"));
    assert_eq!(echoes, 100);
    streams.recv().await.unwrap();
    assert!(streams.try_recv().is_err(), "more than one stream was opened");
}

/// Watches the health of the test service while it changes, and checks that asking agrees.
async fn health_changes(world: &World, channel: Channel) -> Vec<ServingStatus> {
    let reporter = &world.server.health;
    reporter.set_serving::<TestServer<Tester>>().await;
    let mut client = HealthClient::new(channel);
    let request = HealthCheckRequest { service: NAME.to_owned() };
    let mut changes = client.watch(request.clone()).await.unwrap().into_inner();
    let mut seen = vec![changes.message().await.unwrap().unwrap().status()];
    for serving in [false, true] {
        if serving {
            reporter.set_serving::<TestServer<Tester>>().await;
        } else {
            reporter.set_not_serving::<TestServer<Tester>>().await;
        }
        let change = changes.message().await.unwrap().unwrap().status();
        let asked = client.check(request.clone()).await.unwrap().into_inner().status();
        assert_eq!(asked, change);
        seen.push(change);
    }
    let unknown = HealthCheckRequest { service: "no.such.Service".to_owned() };
    assert_eq!(client.check(unknown).await.unwrap_err().code(), tonic::Code::NotFound);
    seen
}

/// The names of all services, sorted, and the file that declares ours.
async fn reflected(channel: Channel) -> (Vec<String>, Vec<u8>) {
    let mut client = ServerReflectionClient::new(channel);
    let questions = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol(NAME.to_owned()),
    ];
    let questions = questions.map(|question| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question),
    });
    let call = client.server_reflection_info(stream::iter(questions));
    let mut answers = call.await.unwrap().into_inner();
    let services = match answers.message().await.unwrap().unwrap().message_response {
        Some(MessageResponse::ListServicesResponse(list)) => list.service,
        answer => panic!("{answer:?}"),
    };
    let mut services: Vec<_> = services.into_iter().map(|service| service.name).collect();
    services.sort();
    let file = match answers.message().await.unwrap().unwrap().message_response {
        Some(MessageResponse::FileDescriptorResponse(files)) => files.file_descriptor_proto.concat(),
        answer => panic!("{answer:?}"),
    };
    (services, file)
}

async fn echoes(channel: Channel) -> u64 {
    let mut client = test_client(channel);
    let mut answered = 0;
    for number in 0..100 {
        let answer = client.echo(payload(number, 100)).await.unwrap().into_inner();
        answered += u64::from(answer.number == number);
    }
    answered
}
