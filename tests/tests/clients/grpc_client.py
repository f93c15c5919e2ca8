"""A gRPC client without generated code: every shape of call of punchline.test.Test, and the
services that every gRPC tool knows. Usage: grpc_client.py HOST:PORT|unix:PATH"""

import queue
import sys

import grpc

DEADLINE = 60
ROUNDS = 200


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def text(field, content):
    return varint(field << 3 | 2) + varint(len(content)) + content


def numbers(*pairs):
    return b"".join(varint(field << 3) + varint(number) for field, number in pairs)


def payload(number, body=b""):
    return numbers((1, number)) + (text(2, body) if body else b"")


def fields(message):
    """All fields of a message, as a list of (field, number or bytes)."""
    found, at = [], 0

    def read():
        nonlocal at
        number = shift = 0
        while True:
            byte = message[at]
            at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    while at < len(message):
        key = read()
        value = read()
        if key & 7 == 2:
            value, at = message[at : at + value], at + value
        found.append((key >> 3, value))
    return found


def number_of(message):
    return dict(fields(message)).get(1, 0)


def unary(channel):
    call = channel.unary_unary("/punchline.test.Test/Echo")
    asked = payload(7, b"x" * 100_000)
    answer, facts = call.with_call(asked, timeout=DEADLINE, metadata=[("x-text", "hello")])
    assert answer == asked
    assert ("x-text", "hello") in [tuple(pair) for pair in facts.initial_metadata()]


def failures(channel):
    for method, code, details in [
        ("Fail", grpc.StatusCode.FAILED_PRECONDITION, "not now: ünïcode, 100 %"),
        ("NoSuchMethod", grpc.StatusCode.UNIMPLEMENTED, None),
    ]:
        try:
            channel.unary_unary("/punchline.test.Test/" + method)(b"", timeout=DEADLINE)
        except grpc.RpcError as error:
            assert error.code() == code, error
            assert details is None or error.details() == details, error
        else:
            raise AssertionError(method + " did not fail")
    try:
        channel.unary_unary("/punchline.test.Test/Wait")(b"", timeout=0.5)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    else:
        raise AssertionError("Wait answered")


def server_streaming(channel):
    call = channel.unary_stream("/punchline.test.Test/Count")
    answers = list(call(numbers((1, 1000), (2, 10_000)), timeout=DEADLINE))
    assert [number_of(answer) for answer in answers] == list(range(1000))
    assert all(dict(fields(answer))[2] == bytes([n & 0xFF]) * 10_000 for n, answer in enumerate(answers))


def client_streaming(channel):
    call = channel.stream_unary("/punchline.test.Test/Sum")
    assert number_of(call((payload(n) for n in range(1, 101)), timeout=DEADLINE)) == 5050


def converse(channel):
    """Each message waits for the answer to the one before."""
    questions = queue.Queue()
    call = channel.stream_stream("/punchline.test.Test/Converse")
    answers = call(iter(questions.get, None), timeout=DEADLINE)
    for number in range(ROUNDS):
        questions.put(payload(number, b"?"))
        assert number_of(next(answers)) == number + 1
    questions.put(None)
    assert list(answers) == []
    assert answers.code() == grpc.StatusCode.OK


def health(channel):
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    serving = check(text(1, b"punchline.test.Test"), timeout=DEADLINE)
    assert number_of(serving) == 1, serving
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=DEADLINE)
    assert number_of(next(watch)) == 1
    watch.cancel()


def reflection(channel):
    info = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    (answer,) = info(iter([text(7, b"")]), timeout=DEADLINE)
    services = dict(fields(answer))[6]
    names = [dict(fields(service))[1] for _, service in fields(services)]
    assert b"punchline.test.Test" in names, names


with grpc.insecure_channel(sys.argv[1]) as channel:
    for part in [unary, failures, server_streaming, client_streaming, converse, health, reflection]:
        part(channel)
        print(part.__name__)
print("all shapes of call work")
