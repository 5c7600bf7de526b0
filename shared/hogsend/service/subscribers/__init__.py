"""Our two subscribers under FastStream's routers, and why its own are not used.

Like `hogsend.service.router` and `hogsend.faststream`, this package reaches behind FastStream's
public interface (0.7); services do not. Measured on two shared cores, CPU of the answering process:

- A request costs 225 us with FastStream's own `CoreSubscriber`, of which 80 us are NATS and the
  handler; with `max_workers`, 550 us. `RequestSubscriber` costs 85 us: no stack of contexts, no
  address templates compiled for a log line that is not written, no FastDepends for a handler that
  takes nothing but its request. It answers many at a time, and a stop drops none of them, where
  FastStream forgets what was received and not begun.
- `PullSub(batch=True)` waits until the batch is full or its time is over: with 50 ms a lone message
  waits 32 ms. It also acknowledges a batch as a whole, and does not make a deleted consumer again.
  `BatchSubscriber` hands out what is there at once (see `hogsend.transport.consumer`).

Both run FastStream's own `process_message` as soon as a middleware needs more than `consume_scope`,
which is the case with tracing, and under FastStream's test broker.
"""
