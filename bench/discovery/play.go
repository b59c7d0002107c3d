package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

const (
	// knownAPIs is the number of APIs of the caller whose memory is measured.
	knownAPIs = 100
	patience  = 30 * time.Second
)

var quiet = slog.New(slog.DiscardHandler)

// play runs a child process by its role.
func play(ctx context.Context, role, endpoint string) error {
	role, argument, _ := strings.Cut(role, "=")
	switch role {
	case "writer":
		return playWriter(ctx, endpoint)
	case "service":
		return playService(ctx, endpoint)
	case "plain-service":
		return playPlainService(ctx)
	case "caller":
		return playCaller(ctx, endpoint)
	case "plain-caller":
		return playPlainCaller(ctx, argument)
	case "many":
		return playMany(ctx, endpoint)
	case "knowing":
		return playKnowing(ctx, endpoint)
	case "plain-knowing":
		return playPlainKnowing(ctx, argument)
	case "fleet":
		return playFleet(ctx, endpoint, argument)
	default:
		return fmt.Errorf("-role %q: there is none", role)
	}
}

func openRegistry(endpoint string) (*etcd.Registry, error) {
	return etcd.Open(etcd.Config{Endpoints: []string{endpoint}, Logger: quiet})
}

// playWriter reads lines of a key and a value, puts the value at the key, and answers
// with the time before the put.
func playWriter(ctx context.Context, endpoint string) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	fmt.Println("ready")
	return answer(func(line string) (any, error) {
		key, value, _ := strings.Cut(line, " ")
		began := time.Now()
		_, err := client.Put(ctx, key, value)
		return began, err
	})
}

type echo struct {
	testv1.UnimplementedEchoServiceServer
}

func (echo) Echo(_ context.Context, req *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	return &testv1.EchoResponse{Text: req.GetText()}, nil
}

// noting is a registry that prints a line when instances are registered.
type noting struct{ discovery.Registry }

func (n noting) Register(instances ...discovery.Instance) (discovery.Registration, error) {
	registration, err := n.Registry.Register(instances...)
	if err == nil {
		go func() {
			if err := discovery.AwaitRegistered(context.Background(), registration); err == nil {
				fmt.Println(instances[0].Address)
			}
		}()
	}
	return registration, err
}

func playService(ctx context.Context, endpoint string) error {
	registry, err := openRegistry(endpoint)
	if err != nil {
		return err
	}
	defer registry.Close()
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() {
		served <- framework.Serve(ctx, noting{registry}, func(apis grpc.ServiceRegistrar) {
			testv1.RegisterEchoServiceServer(apis, echo{})
		}, framework.Logger(quiet))
	}()
	err = answer(func(string) (any, error) { return use(), nil })
	cancel()
	return errors.Join(err, <-served)
}

func playPlainService(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	testv1.RegisterEchoServiceServer(server, echo{})
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Println(listener.Addr())
	err = answer(func(string) (any, error) { return use(), nil })
	server.Stop()
	if ended := <-served; !errors.Is(ended, grpc.ErrServerStopped) { // which it is when it was stopped at once
		err = errors.Join(err, ended)
	}
	return err
}

func playCaller(ctx context.Context, endpoint string) error {
	registry, err := openRegistry(endpoint)
	if err != nil {
		return err
	}
	defer registry.Close()
	bus, err := framework.NewBus(registry, framework.Logger(quiet))
	if err != nil {
		return err
	}
	defer bus.Close()
	if _, err := testv1.NewEchoServiceClient(bus).Echo(ctx, &testv1.EchoRequest{}); err != nil {
		return err
	}
	fmt.Println("replied")
	return answer(func(string) (any, error) { return use(), nil })
}

func playPlainCaller(ctx context.Context, address string) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := testv1.NewEchoServiceClient(conn).Echo(ctx, &testv1.EchoRequest{}); err != nil {
		return err
	}
	fmt.Println("replied")
	return answer(func(string) (any, error) { return use(), nil })
}

func manyAPI(i int) string { return "bench.api" + strconv.Itoa(i) }

// playMany runs an instance of many APIs.
func playMany(ctx context.Context, endpoint string) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	registry, err := openRegistry(endpoint)
	if err != nil {
		return err
	}
	defer registry.Close()
	instances := make([]discovery.Instance, knownAPIs)
	incarnation := discovery.NewIncarnation()
	for i := range instances {
		instances[i] = discovery.Instance{API: manyAPI(i), Address: listener.Addr().String(), Incarnation: incarnation}
	}
	registration, err := registry.Register(instances...)
	if err != nil {
		return err
	}
	if err := discovery.AwaitRegistered(ctx, registration); err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	err = answer(func(string) (any, error) { return use(), nil })
	server.Stop()
	return errors.Join(err, registration.Close(ctx), <-served)
}

// playKnowing prints its memory, and then runs a caller that is connected to an instance
// of each of these APIs.
func playKnowing(ctx context.Context, endpoint string) error {
	registry, err := openRegistry(endpoint)
	if err != nil {
		return err
	}
	defer registry.Close()
	bus, err := framework.NewBus(registry, framework.Logger(quiet))
	if err != nil {
		return err
	}
	defer bus.Close()
	if err := bus.Ready(ctx, manyAPI(0)); err != nil {
		return err
	}
	fmt.Println("ready")
	first := true
	return answer(func(string) (any, error) {
		if first {
			first = false
			return use(), nil
		}
		for i := range knownAPIs {
			if err := bus.Ready(ctx, manyAPI(i)); err != nil {
				return nil, err
			}
		}
		return use(), nil
	})
}

// playPlainKnowing does the same with plain grpc-go.
func playPlainKnowing(ctx context.Context, address string) error {
	var conns []*grpc.ClientConn
	connect := func() error {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		conns = append(conns, conn)
		_, err = grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		return err
	}
	if err := connect(); err != nil {
		return err
	}
	fmt.Println("ready")
	first := true
	err := answer(func(string) (any, error) {
		if first {
			first = false
			return use(), nil
		}
		for len(conns) < knownAPIs {
			if err := connect(); err != nil {
				return nil, err
			}
		}
		return use(), nil
	})
	for _, conn := range conns {
		_ = conn.Close()
	}
	return err
}

// playFleet registers many instances, each with a registry and connection of its own,
// like as many processes. It answers a line with the number of registered instances.
func playFleet(ctx context.Context, endpoint, size string) error {
	count, err := strconv.Atoi(size)
	if err != nil {
		return err
	}
	registries := make([]*etcd.Registry, count)
	registrations := make([]discovery.Registration, count)
	for i := range count {
		if registries[i], err = openRegistry(endpoint); err != nil {
			return err
		}
		instance := discovery.Instance{API: "bench.fleet", Address: fmt.Sprintf("10.0.%d.%d:443", i/250, i%250), Incarnation: discovery.NewIncarnation()}
		if registrations[i], err = registries[i].Register(instance); err != nil {
			return err
		}
	}
	for _, registration := range registrations {
		if err := discovery.AwaitRegistered(ctx, registration); err != nil {
			return err
		}
	}
	fmt.Println("registered")
	err = answer(func(string) (any, error) {
		up := 0
		for _, registration := range registrations {
			if status := registration.Status(); status.Registered && status.Err == nil {
				up++
			}
		}
		return up, nil
	})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	for i := range registries {
		_ = registrations[i].Close(ctx)
		_ = registries[i].Close()
	}
	return err
}
