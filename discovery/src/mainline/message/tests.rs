#![allow(clippy::unwrap_used)]
use super::*;

const US: Id = Id::new([1; 20]);

fn to() -> SocketAddrV4 {
    "203.0.113.7:6881".parse().unwrap()
}

fn token() -> Vec<u8> {
    b"token".to_vec()
}

fn queries() -> Vec<Query> {
    let (target, hash) = (Id::new([2; 20]), Id::new([3; 20]));
    let immutable = Item::Immutable { value: b"5:value".to_vec() };
    let mutable = |salt: &[u8]| {
        let (key, signature) = ([4; 32], [5; 64]);
        Item::Mutable(Mutable { key, salt: salt.to_vec(), seq: 6, signature, value: b"i7e".to_vec() })
    };
    vec![
        Query::Ping,
        Query::FindNode { target },
        Query::GetPeers { hash },
        Query::Announce { hash, port: Some(8), token: token() },
        Query::Announce { hash, port: None, token: token() },
        Query::Get { target },
        Query::Put { item: immutable, replaces: None, token: token() },
        Query::Put { item: mutable(b""), replaces: Some(9), token: token() },
        Query::Put { item: mutable(b"salt"), replaces: None, token: token() },
    ]
}

fn answers() -> Vec<Answer> {
    let node = Node { id: Id::new([6; 20]), address: to() };
    let item = Item::Immutable { value: b"de".to_vec() };
    let empty = Answer::new(US);
    let values = Answer { item: Some(item), token: Some(token()), ..empty.clone() };
    let peers =
        Answer { peers: vec![to(); 3], nodes: vec![node; 8], token: Some(token()), ..empty.clone() };
    vec![empty, values, peers]
}

fn bodies() -> Vec<Body> {
    let query = |query| {
        [false, true].map(|read_only| Body::Query { from: US, query: Query::clone(&query), read_only })
    };
    let answer = |answer| Body::Answer { answer: Box::new(answer), sees_us_at: Some(to()) };
    let refusals = Refusal::ALL.map(|(refusal, ..)| Body::Refusal(refusal));
    let queries = queries().into_iter().flat_map(query);
    queries.chain(answers().into_iter().map(answer)).chain(refusals).collect()
}

/// Whether keys come in order, at every level.
fn is_in_order(value: &Value<'_>) -> bool {
    match value {
        Value::Dictionary(dictionary) => {
            let keys = dictionary.keys();
            keys.is_sorted() && dictionary.values().all(is_in_order)
        }
        Value::List(list) => list.iter().all(is_in_order),
        Value::Number(_) | Value::Bytes(_) => true,
    }
}

#[test]
fn what_is_written_is_read_again_and_its_keys_are_in_order() {
    for body in bodies() {
        for transaction in [&b"a"[..], b"aa", b"aaaa", b""] {
            let packet = Packet { transaction: transaction.to_vec(), body: body.clone() };
            let written = packet.write(to());
            assert!(is_in_order(&bencode::read_value(&written).unwrap()), "{body:?}");
            assert_eq!(Packet::read(&written), Some(Ok(packet)));
        }
    }
}

#[test]
fn the_example_of_bep_5_is_read() {
    let text =
        b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe";
    let target = Id::new(*b"mnopqrstuvwxyz123456");
    let from = Id::new(*b"abcdefghij0123456789");
    let body = Body::Query { from, query: Query::FindNode { target }, read_only: false };
    assert_eq!(Packet::read(text), Some(Ok(Packet { transaction: b"aa".to_vec(), body })));
}

#[test]
fn cut_and_changed_packets_are_refused_or_read_and_nothing_else() {
    for body in bodies() {
        let whole = Packet { transaction: b"aa".to_vec(), body }.write(to());
        for length in 0..whole.len() {
            assert_eq!(Packet::read(&whole[..length]), None);
        }
        for at in 0..whole.len() {
            for byte in [0, b'e', b'd', b'l', b'9', 0xff] {
                let mut changed = whole.clone();
                changed[at] = byte;
                let _ = Packet::read(&changed);
            }
        }
    }
}

fn refused(text: &str) -> Option<Refusal> {
    Packet::read(text.as_bytes()).and_then(Result::err).map(|(_, refusal)| refusal)
}

#[test]
fn a_query_that_makes_no_sense_is_told_so() {
    let id = "2:id20:aaaaaaaaaaaaaaaaaaaa";
    let with = |arguments: &str, method: &str| {
        format!("d1:ad{arguments}e1:q{}:{method}1:t1:x1:y1:qe", method.len())
    };
    assert_eq!(refused(&with(id, "vote")), Some(Refusal::UnknownMethod));
    assert_eq!(refused(&with("", "ping")), Some(Refusal::Protocol));
    assert_eq!(refused(&with(id, "find_node")), Some(Refusal::Protocol));
    let hash = "9:info_hash20:bbbbbbbbbbbbbbbbbbbb";
    let port = |port: i64| with(&format!("{id}{hash}4:porti{port}e5:token1:t"), "announce_peer");
    assert_eq!(refused(&port(80)), None);
    for wrong in [0, -1, 65536] {
        assert_eq!(refused(&port(wrong)), Some(Refusal::Protocol), "{wrong}");
    }
    let long = format!("{id}5:token1:t1:v{}:{}", 1000, "v".repeat(1000));
    assert_eq!(refused(&with(&long, "put")), Some(Refusal::TooLong), "1,005 bytes with its length");
    let no_number = format!("{id}1:k32:{}3:sig64:{}5:token1:t1:v1:v", "k".repeat(32), "s".repeat(64));
    assert_eq!(refused(&with(&no_number, "put")), Some(Refusal::Protocol));
}

#[test]
fn of_an_answer_only_so_many_nodes_and_peers_are_read_and_none_where_nobody_can_be() {
    let node =
        |last: u8, port: u16| Node { id: US, address: SocketAddrV4::new([10, 0, 0, last].into(), port) };
    let mut answer = Answer::new(US);
    answer.nodes = (1..=33).map(|last| node(last, 1)).collect();
    answer.peers = (1..=51).map(|last| node(last, 1).address).collect();
    let read = |answer: &Answer| {
        let body = Body::Answer { answer: Box::new(answer.clone()), sees_us_at: None };
        match Packet::read(&Packet { transaction: b"a".to_vec(), body }.write(to())) {
            Some(Ok(Packet { body: Body::Answer { answer, .. }, .. })) => *answer,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((read(&answer).nodes.len(), read(&answer).peers.len()), (NODES_READ_MAX, PEERS_MAX));
    let nobody = ["0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "10.0.0.1:0"];
    answer.peers = nobody.iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(read(&answer).peers, []);
}

#[test]
fn the_longest_answer_passes_everywhere() {
    let node = Node { id: Id::new([6; 20]), address: to() };
    let (key, signature, value) = ([4; 32], [5; 64], [b"996:".to_vec(), vec![0; 996]].concat());
    let item = Item::Mutable(Mutable { key, salt: Vec::new(), seq: i64::MAX, signature, value });
    let answer =
        Answer { nodes: vec![node; 8], token: Some(vec![0; 8]), item: Some(item), ..Answer::new(US) };
    let body = Body::Answer { answer: Box::new(answer), sees_us_at: None };
    let packet = Packet { transaction: vec![0; TRANSACTION_BYTES_MAX], body };
    // What Ethernet carries, less the headers of IP and UDP.
    assert!(packet.write(to()).len() <= 1472);
}

#[test]
fn what_is_too_long_to_pass_is_not_read() {
    let packet = |length: usize| {
        let text = format!("d1:ad2:id20:{}e1:q4:ping1:t1:x1:x{length}:", "a".repeat(20));
        [text.as_bytes(), &vec![b'x'; length], b"1:y1:qe"].concat()
    };
    assert!(Packet::read(&packet(1000)).is_some());
    assert!(Packet::read(&packet(1500)).is_none());
    let transaction = |length: usize| format!("d1:eli202e0:e1:t{length}:{}1:y1:ee", "t".repeat(length));
    assert!(Packet::read(transaction(16).as_bytes()).is_some());
    assert!(Packet::read(transaction(17).as_bytes()).is_none());
}
