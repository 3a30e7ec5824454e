"""A node of bytes, for what a `NodeSession` would never say."""

from __future__ import annotations

from session_help import BUNDLE, RAW_LEN, make_store

from waistline.session import bodies
from waistline.session.edge import EdgeSession
from waistline.wire import Message, MessageType, Parser, bundle_tag, encode_message

ANY = dict.fromkeys(MessageType, 1 << 20)


class RawNode:
    """Says whatever the test wants to an edge session."""

    def __init__(self, store=None, *, session_id=7, node_id="node-1", bundle=BUNDLE, now=0.0):
        self.store = store or make_store()
        self.session_id, self.node_id, self.bundle = session_id, node_id, bundle
        self.woken = 0
        self.edge = EdgeSession(self.store, now=now, wake=self._wake)

    def _wake(self):
        self.woken += 1

    def say(self, kind, payload=b"", now=0.0, **fields):
        head = {"session": self.session_id, "bundle": bundle_tag(self.bundle), **fields}
        return self.edge.receive(b"".join(encode_message(kind, [payload], **head)), now)

    def hello(self, now=0.0, **changes):
        hello = bodies.Hello(**{"node_id": self.node_id, "bundle": self.bundle, **changes})
        return self.say(MessageType.HELLO, bodies.dump(hello), now)

    def data(self, seq, payload=b"waist", raw_len=RAW_LEN, budget_ms=1000, now=0.0):
        return self.say(
            MessageType.DATA, payload, now, seq=seq, raw_len=raw_len, budget_ms=budget_ms
        )

    def heard(self) -> list[Message]:
        return list(Parser(ANY).feed(b"".join(bytes(part) for part in self.edge.to_send())))

    def faults(self) -> list[str]:
        heard = [message for message in self.heard() if message.type is MessageType.ERROR]
        return [bodies.load(message.payload, bodies.Fault).kind for message in heard]


def joined(**settings) -> RawNode:
    node = RawNode(**settings)
    node.hello()
    node.heard()
    assert node.edge.joined
    return node
