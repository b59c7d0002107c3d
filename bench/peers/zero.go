package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/zeromicro/go-zero/core/conf"
	"github.com/zeromicro/go-zero/core/discov"
	"github.com/zeromicro/go-zero/core/logx"
	"github.com/zeromicro/go-zero/core/stat"
	"github.com/zeromicro/go-zero/zrpc"
	"google.golang.org/grpc"

	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func serveZero(ctx context.Context, etcd string, ready func(string)) error {
	quietZero()
	address, err := freeAddress(ctx) // go-zero needs a port
	if err != nil {
		return err
	}
	var config zrpc.RpcServerConf
	if err := conf.FillDefault(&config); err != nil {
		return err
	}
	config.Name, config.ListenOn, config.Timeout = name, address, deadline.Milliseconds()
	config.Etcd = registered(etcd)
	config.Log.Level, config.Log.Stat = "severe", false // its log goes to the standard output
	config.CpuThreshold = 0                             // it sheds calls while the CPU is busy, as it is here
	config.DevServer.Enabled = false                    // it has a fixed port
	server, err := zrpc.NewServer(config, func(server *grpc.Server) { testv1.RegisterEchoServiceServer(server, echo{}) })
	if err != nil {
		return err
	}
	go server.Start() // only a signal ends it
	ready(address)
	<-ctx.Done()
	return nil
}

func dialZero(_ context.Context, etcd, _ string) (client, func() error, error) {
	quietZero()
	// NonBlock is false, because failed calls before it is connected would open its breaker.
	config := zrpc.RpcClientConf{Etcd: registered(etcd), Timeout: deadline.Milliseconds(), BalancerName: "p2c_ewma"}
	config.Middlewares.Trace, config.Middlewares.Duration, config.Middlewares.Prometheus = true, true, true // its defaults
	config.Middlewares.Breaker, config.Middlewares.Timeout = true, true
	made, err := zrpc.NewClient(config)
	if err != nil {
		return nil, nil, fmt.Errorf("its client: %w", err)
	}
	conn := made.Conn()
	return generated(testv1.NewEchoServiceClient(conn)), func() error { return closeConn(conn) }, nil
}

// registered returns where go-zero registers the service. The key must not begin with the
// name under which the others do, whose entries are not like its own.
func registered(etcd string) discov.EtcdConf {
	return discov.EtcdConf{Hosts: []string{strings.TrimPrefix(etcd, "http://")}, Key: "zero." + name}
}

// quietZero turns go-zero's log off.
func quietZero() {
	logx.Disable()
	stat.SetReportWriter(nil)
}

func closeConn(conn grpc.ClientConnInterface) error {
	if closer, ok := conn.(interface{ Close() error }); ok {
		return closer.Close()
	}
	return nil
}
