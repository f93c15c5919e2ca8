#![allow(clippy::unwrap_used)]
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{
    seats::{OF_OURSELVES_MAX, SEATS_MAX},
    *,
};

/// Sends a request as it stands, and reads until the connection ends.
pub(crate) async fn ask(address: SocketAddr, request: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // What was not read of a request has the connection reset after the answer.
    let _ = socket.read_to_string(&mut answer).await;
    answer
}

/// Says that it is there, and goes on and on where it is asked to.
struct Teller;

impl Respond for Teller {
    async fn respond(&self, request: &Parts) -> Answer {
        if let Some(refusal) = refuse_method(&request.method) {
            return refusal;
        }
        let mut answer = plain(StatusCode::OK, "here");
        let lasts = match request.uri.path() {
            "/on" => Duration::from_millis(50),
            "/wait" => Duration::from_secs(600),
            _ => return answer,
        };
        let body = http_body_util::StreamBody::new(futures::stream::pending());
        answer = stream(StatusCode::OK, "text/plain", body.boxed_unsync());
        answer.extensions_mut().insert(Lasts(lasts));
        answer
    }
}

async fn start() -> (JoinSet<()>, SocketAddr) {
    let listener = Listener::bind(([127, 0, 0, 1], 0).into(), "--test").await.unwrap();
    let address = listener.address;
    let mut tasks = JoinSet::new();
    tasks.spawn(listener.serve(Arc::new(Teller)));
    (tasks, address)
}

#[tokio::test]
async fn what_is_no_usual_request_is_refused() {
    let (_serving, address) = start().await;
    let wrong = ask(address, "POST /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(wrong.starts_with("HTTP/1.1 405") && wrong.contains("allow: GET, HEAD"), "{wrong}");
    let long = "a".repeat(HEADER_BYTES_MAX);
    let long = ask(address, &format!("GET /metrics HTTP/1.1\r\nLong: {long}\r\n\r\n")).await;
    assert!(long.starts_with("HTTP/1.1 431"), "{long}");
    let many = "A: b\r\n".repeat(200);
    let many = ask(address, &format!("GET /metrics HTTP/1.1\r\n{many}\r\n")).await;
    assert!(many.starts_with("HTTP/1.1 431"), "{many}");
}

/// Whether the other end closed it. What it was sent is read first.
async fn is_closed(socket: &mut TcpStream) -> bool {
    let closed = async {
        let mut rest = [0; 1024];
        while socket.read(&mut rest).await.is_ok_and(|length| length > 0) {}
    };
    timeout(SOON, closed).await.is_ok()
}

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn whoever_opens_connections_and_says_nothing_takes_no_answer_away() {
    let (_serving, address) = start().await;
    let mut silent = Vec::new();
    for _ in 0..4 * SEATS_MAX {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let answer = timeout(HEAD_DEADLINE, ask(address, "GET /healthz HTTP/1.0\r\n\r\n")).await;
    assert!(answer.expect("at once").starts_with("HTTP/1.0 200"));
    assert!(is_closed(&mut silent[0]).await, "the oldest went");
}

#[tokio::test]
async fn of_one_source_no_more_are_answered_at_once_than_it_may_have() {
    let (_serving, address) = start().await;
    let mut answered = Vec::new();
    for _ in 0..OF_OURSELVES_MAX {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        // Its head was read.
        let mut first = [0; 12];
        socket.read_exact(&mut first).await.unwrap();
        answered.push(socket);
    }
    assert!(is_closed(&mut TcpStream::connect(address).await.unwrap()).await, "one too many");
    drop(answered);
    let again =
        async { while !ask(address, "GET / HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 200") {} };
    timeout(SOON, again).await.expect("places came back");
}

#[tokio::test]
async fn whoever_says_nothing_is_sent_away_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (socket, from) = listener.accept().await.unwrap();
    let room = Arc::new(Room::default());
    let seated = room.seat(from.ip()).await.unwrap();
    answer(socket, Arc::new(Teller), seated, (Duration::from_millis(20), SOON)).await;
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0, "it is closed");
    assert_eq!(HEAD_DEADLINE, Duration::from_secs(2));
}

#[tokio::test]
async fn an_answer_that_goes_on_has_a_deadline_of_its_own() {
    let (_serving, address) = start().await;
    let began = std::time::Instant::now();
    let answer = ask(address, "GET /on HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("chunked"), "{answer}");
    assert!(began.elapsed() < CONNECTION_DEADLINE, "not that of others");
}
