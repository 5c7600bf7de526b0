// npm install @nats-io/jetstream @nats-io/transport-node
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";

const { NATS_SERVER, NATS_USERNAME, NATS_PASS, NATS_INBOX_PREFIX } = process.env;
const connection = await connect({
  servers: NATS_SERVER,
  user: NATS_USERNAME,
  pass: NATS_PASS,
  inboxPrefix: NATS_INBOX_PREFIX,
});
const js = jetstream(connection);
const manager = await jetstreamManager(connection);
const stream = await manager.streams.find("hogsend.events.signed_up");
console.log("stream:", stream);

// A durable keeps its position under its name; replicas that share the name share the events.
await manager.consumers.add(stream, {
  durable_name: "mailer-js",
  filter_subject: "hogsend.events.signed_up",
  ack_policy: AckPolicy.Explicit,
});
const durable = await js.consumers.get(stream, "mailer-js");
const message = await durable.next({ expires: 60_000 });
console.log("durable:", message.json().userId);
message.ack();

// Without a name the position lives as long as a program reads.
const { name } = await manager.consumers.add(stream, {
  filter_subject: "hogsend.events.*",
  ack_policy: AckPolicy.Explicit,
});
const unnamed = await js.consumers.get(stream, name);
const first = await unnamed.next({ expires: 60_000 });
console.log("unnamed:", first.subject);
first.ack();
await unnamed.delete();

// In order, for one reader, with nothing to acknowledge.
const ordered = await js.consumers.get(stream, { filter_subjects: "hogsend.events.*" });
for await (const event of await ordered.consume()) {
  console.log("ordered:", event.subject);
  break;
}

// The last state of every credential, and each change from then on.
const states = await js.consumers.get("CREDENTIALS", {
  deliver_policy: DeliverPolicy.LastPerSubject,
  filter_subjects: "hogsend.credentials.*.changed",
});
for await (const state of await states.consume()) {
  console.log("credential:", state.json().provider);
  break;
}

await connection.close();
