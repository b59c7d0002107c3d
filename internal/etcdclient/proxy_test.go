package etcdclient_test

import (
	"context"
	"net"
	"testing"

	"github.com/onecall-dev/onecall/internal/etcdclient"
	"github.com/onecall-dev/onecall/internal/grpctest"
)

func TestAProxyOfTheEnvironmentIsNotUsed(t *testing.T) { //nolint:paralleltest // the process that runs its body has nothing else to do
	grpctest.UnderProxy(t, func() {
		member, asked := grpctest.Accepts(t)
		_, port, err := net.SplitHostPort(member.String())
		if err != nil {
			t.Fatal(err)
		}
		// Only the name in small letters is never looked up at a proxy.
		config, wrong := etcdclient.Config{Endpoints: []string{"http://LOCALHOST:" + port}}.WithDefaults()
		if wrong != nil {
			t.Fatal(wrong)
		}
		life, end := context.WithCancel(t.Context())
		conn := etcdclient.New(life, config)
		defer func() {
			end()
			conn.Close()
		}()
		if client, err := conn.Ready(t.Context()); err == nil { // the member says nothing
			t.Errorf("Ready = %v, want an error", client)
		}
		select {
		case <-asked: // before it closed the connection, which is the error
		default:
			t.Error("the member was not asked")
		}
	})
}
