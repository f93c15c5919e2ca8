//! What the tests ask a stock node: its RPC, one question at a time.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use hyper_util::rt::TokioIo;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use wire::kaspad_request::Payload as Question;
use wire::kaspad_response::Payload as Answer;
use wire::rpc_client::RpcClient;
use wire::submit_block_response_message::RejectReason;

#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, reason = "generated")]
mod wire {
    tonic::include_proto!("protowire");
}

/// The RPC of a running node.
#[derive(Debug)]
pub struct Rpc {
    talk: Mutex<Talk>,
}

#[derive(Debug)]
struct Talk {
    questions: mpsc::Sender<wire::KaspadRequest>,
    answers: Streaming<wire::KaspadResponse>,
    asked: u64,
}

/// What a node knows of one of its peers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// The id that the peer drew when it started.
    pub id: String,
    /// Where the node sees it: the other end of the TCP connection.
    pub address: SocketAddr,
    /// Whether the node dialled it.
    pub outbound: bool,
    /// The Kaspa protocol version that the peer offers.
    pub protocol_version: u32,
    /// How long this connection has been there.
    pub connected: Duration,
}

/// How much of the block DAG a node has: two nodes with the same have the same blocks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dag {
    /// Its blocks, the genesis among them.
    pub blocks: u64,
    /// The hash of the tip that the node builds on.
    pub sink: String,
}

/// The answer to a question, unless it says that the question failed.
macro_rules! ask {
    ($rpc:expr, $kind:ident, $question:expr) => {
        match $rpc.ask(Question::$kind($question)).await? {
            Answer::$kind(answer) => match &answer.error {
                Some(error) => Err(anyhow!("kaspad on {}: {}", stringify!($kind), error.message)),
                None => Ok(answer),
            },
            other => Err(anyhow!("kaspad answered {} with {other:?}", stringify!($kind))),
        }
    };
}

impl Rpc {
    /// Speaks over a TCP connection to the node's RPC port.
    ///
    /// # Errors
    ///
    /// If nobody there speaks gRPC.
    pub async fn connect(socket: TcpStream) -> Result<Self> {
        socket.set_nonblocking(true)?;
        let mut socket = Some(TokioIo::new(tokio::net::TcpStream::from_std(socket)?));
        let connector = tower::service_fn(move |_| {
            let once = socket.take().ok_or_else(|| std::io::Error::other("the RPC connection ended"));
            std::future::ready(once)
        });
        let channel = Endpoint::from_static("http://kaspad").connect_with_connector(connector).await?;
        let (questions, outgoing) = mpsc::channel(1);
        let mut client = RpcClient::new(channel);
        let stream = client.message_stream(ReceiverStream::new(outgoing));
        let answers = timeout(ANSWER_DEADLINE, stream).await.context("kaspad's RPC is silent")??;
        let talk = Talk { questions, answers: answers.into_inner(), asked: 0 };
        Ok(Self { talk: Mutex::new(talk) })
    }

    /// The id under which the node's peers know it.
    ///
    /// # Errors
    ///
    /// As for every question: if the node is gone, silent, or refuses.
    pub async fn id(&self) -> Result<String> {
        let answer = ask!(self, Node, wire::GetInfoRequestMessage {})?;
        Ok(answer.p2p_id)
    }

    /// The peers that the node has shaken hands with.
    ///
    /// # Errors
    ///
    /// As for [`Rpc::id`].
    pub async fn peers(&self) -> Result<Vec<Peer>> {
        let answer = ask!(self, ConnectedPeers, wire::GetConnectedPeerInfoRequestMessage {})?;
        answer.infos.into_iter().map(Peer::try_from).collect()
    }

    /// How much of the block DAG the node has.
    ///
    /// # Errors
    ///
    /// As for [`Rpc::id`].
    pub async fn dag(&self) -> Result<Dag> {
        let answer = ask!(self, BlockDag, wire::GetBlockDagInfoRequestMessage {})?;
        Ok(Dag { blocks: answer.block_count, sink: answer.sink })
    }

    /// Makes the node dial `address` now; it does not say how that ended. A `permanent` peer is dialled
    /// again whenever the node looks after its peers, each 30 s, and finds it gone; another is not.
    ///
    /// # Errors
    ///
    /// As for [`Rpc::id`].
    pub async fn add_peer(&self, address: SocketAddr, permanent: bool) -> Result<()> {
        let (address, is_permanent) = (address.to_string(), permanent);
        let question = wire::AddPeerRequestMessage { address, is_permanent };
        ask!(self, AddPeer, question).map(drop)
    }

    /// Mines `blocks` on top of each other, which takes no work on simnet.
    ///
    /// # Errors
    ///
    /// As for [`Rpc::id`], or if the node does not take a block that it made itself.
    pub async fn mine(&self, blocks: u64) -> Result<()> {
        for _ in 0..blocks {
            let pay_address = PAY_ADDRESS.to_owned();
            let template = wire::GetBlockTemplateRequestMessage { pay_address };
            let block = ask!(self, BlockTemplate, template)?.block;
            let answer = ask!(self, SubmitBlock, wire::SubmitBlockRequestMessage { block })?;
            let refused = answer.reject_reason();
            ensure!(refused == RejectReason::None, "kaspad refused a block: {refused:?}");
        }
        Ok(())
    }

    async fn ask(&self, question: Question) -> Result<Answer> {
        let mut talk = self.talk.lock().await;
        timeout(ANSWER_DEADLINE, talk.ask(question)).await.context("kaspad does not answer")?
    }
}

impl Talk {
    async fn ask(&mut self, question: Question) -> Result<Answer> {
        self.asked += 1;
        let request = wire::KaspadRequest { id: self.asked, payload: Some(question) };
        self.questions.send(request).await.context("kaspad's RPC has ended")?;
        while let Some(answer) = self.answers.message().await? {
            // An older id: the question of somebody who no longer waits.
            if answer.id == self.asked {
                return answer.payload.context("an answer that this client does not know");
            }
        }
        bail!("kaspad's RPC has ended")
    }
}

impl TryFrom<wire::GetConnectedPeerInfoMessage> for Peer {
    type Error = anyhow::Error;

    fn try_from(peer: wire::GetConnectedPeerInfoMessage) -> Result<Self> {
        Ok(Self {
            address: peer.address.parse().with_context(|| format!("kaspad's peer {peer:?}"))?,
            connected: Duration::from_millis(peer.time_connected.try_into()?),
            outbound: peer.is_outbound,
            protocol_version: peer.advertised_protocol_version,
            id: peer.id,
        })
    }
}

/// Longer than a busy machine takes for a block; a node that hangs is noticed.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// The simnet address of a public key of 32 zero bytes: nobody spends what the tests mine.
const PAY_ADDRESS: &str = "kaspasim:qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqekcujlt2";
