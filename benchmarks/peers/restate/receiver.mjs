// A webhook receiver on Restate: its server logs the webhook, answers, and calls this handler until it
// has inserted a row. Each webhook once by its idempotency key, and each row once by its id. It knows no
// contacts, and announces nothing.
import * as restate from "@restatedev/restate-sdk";
import pg from "pg";

// Restate's library needs it, and Node.js has it since version 22.
Promise.withResolvers ??= () => {
  const all = {};
  all.promise = new Promise((resolve, reject) => Object.assign(all, { resolve, reject }));
  return all;
};

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 });
await pool.query(
  "CREATE TABLE IF NOT EXISTS peer_events (id text PRIMARY KEY, name text, distinct_id text, payload jsonb)",
);

const webhooks = restate.service({
  name: "webhooks",
  handlers: {
    posthog: async (context, webhook) => {
      // The answer was given before: what is wrong here is accepted, and then dropped.
      if (context.request().headers.get("x-posthog-webhook-secret") !== process.env.SECRET) {
        throw new restate.TerminalError("unauthorized", { errorCode: 401 });
      }
      const { uuid, event, distinct_id } = webhook.event;
      await context.run("insert", async () => {
        await pool.query("INSERT INTO peer_events VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING", [
          uuid,
          event,
          distinct_id,
          webhook,
        ]);
      });
    },
  },
});

restate.serve({ services: [webhooks], port: Number(process.env.PORT) });
