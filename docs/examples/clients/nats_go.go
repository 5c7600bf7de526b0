// go get github.com/nats-io/nats.go

package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	ctx := context.Background()
	connection, err := nats.Connect(
		os.Getenv("NATS_SERVER"),
		nats.UserInfo(os.Getenv("NATS_USERNAME"), os.Getenv("NATS_PASS")),
		nats.CustomInboxPrefix(os.Getenv("NATS_INBOX_PREFIX")),
	)
	check(err)
	defer connection.Close()
	js, err := jetstream.New(connection)
	check(err)
	stream, err := js.StreamNameBySubject(ctx, "hogsend.events.signed_up")
	check(err)

	// A durable keeps its position under its name; replicas that share the name share the events.
	// Leave Durable out, and the position lives as long as a program reads.
	durable, err := js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
		Durable:       "mailer-go",
		FilterSubject: "hogsend.events.signed_up",
		AckPolicy:     jetstream.AckExplicitPolicy,
	})
	check(err)
	_, err = durable.Consume(func(message jetstream.Msg) {
		fmt.Println("event:", string(message.Data()))
		check(message.Ack())
	})
	check(err)

	// In order, with nothing to acknowledge: the last state of every credential, then each change.
	states, err := js.OrderedConsumer(ctx, "CREDENTIALS", jetstream.OrderedConsumerConfig{
		DeliverPolicy:  jetstream.DeliverLastPerSubjectPolicy,
		FilterSubjects: []string{"hogsend.credentials.*.changed"},
	})
	check(err)
	_, err = states.Consume(func(message jetstream.Msg) {
		fmt.Println("credential:", string(message.Data()))
	})
	check(err)
	select {}
}
