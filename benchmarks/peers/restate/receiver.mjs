// A webhook receiver on Restate. Restate's server stores the webhook, responds, and calls this handler
// until it succeeds. A webhook is processed once by its idempotency key, and stored once by its id. It has
// no contacts, and publishes nothing.
import * as restate from "@restatedev/restate-sdk";
import pg from "pg";

// Restate's library needs this function, which Node.js has since version 22.
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
      // Restate has already responded: a webhook with a wrong secret was accepted, and is dropped here.
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
