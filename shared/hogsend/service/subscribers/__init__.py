"""Our two FastStream subscribers, and why FastStream's own are not used.

This package uses private interfaces of FastStream 0.7, as do `hogsend.service.router` and
`hogsend.faststream`; services do not. CPU time was measured in the process that answers, on two
shared cores:

- A request costs 225 us with FastStream's `CoreSubscriber`, of which NATS and the handler use
  80 us; with `max_workers` it costs 550 us. `RequestSubscriber` costs 85 us. It has no stack of
  contexts, compiles no address templates for a log line that is not written, and does not call
  FastDepends for a handler that takes nothing but its request. It handles requests concurrently and
  answers all of them at a stop, whereas FastStream drops requests that it has received and not
  started.
- `PullSub(batch=True)` waits until the batch is full or its timeout has passed: with a timeout of
  50 ms a lone message waits 32 ms. It also acknowledges a batch as a whole, and does not recreate a
  deleted consumer. `BatchSubscriber` processes what is available at once, see
  `hogsend.transport.consumer`.

`RequestSubscriber` uses FastStream's `process_message` only when a middleware needs more than
`consume_scope`, and under FastStream's test broker. `BatchSubscriber` always uses it.
"""
