package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/onecall-dev/onecall/interceptors/atmostonce/client"
	"github.com/onecall-dev/onecall/interceptors/timeout"
)

// dialOptions returns the options of a connection: defaults, then the program's own
// options, which may change the defaults, then the options that a program cannot change.
//
// The code that runs around a call of a bus is not an interceptor: see Route.Call.
func dialOptions(bus Options, calls *client.Channel, limits map[string]timeout.Limit, resolvers ...grpc.DialOption) ([]grpc.DialOption, error) {
	config, err := serviceConfig(bus.Balancing, calls, limits)
	if err != nil {
		return nil, err
	}
	options := slices.Clone(resolvers) // grpc-go takes the first resolver of a scheme
	// A proxy of the environment would replace the instances' addresses.
	options = append(options, grpc.WithNoProxy())
	if bus.dialer != nil { // a dialer of the program replaces it, and uses no socket
		options = append(options, grpc.WithContextDialer(bus.dialer.Dial))
	}
	options = append(options, bus.Limits.options()...)
	switch {
	case bus.identity != nil:
		options = append(options, grpc.WithTransportCredentials(bus.identity.Credentials()))
	case !bus.credentials:
		options = append(options, grpc.WithTransportCredentials(bus.plainText))
	}
	options = append(options, bus.Dial...)
	return append(options,
		grpc.WithChainUnaryInterceptor(calls.UnaryClientInterceptor),
		grpc.WithChainStreamInterceptor(calls.StreamClientInterceptor),
		grpc.WithDefaultServiceConfig(config),
		grpc.WithDisableServiceConfig(), // no resolver can add a retry policy
		grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.MaxRetryRPCBufferSize(0)),
	), nil
}

// hasCredentials reports whether the program's options have credentials.
func hasCredentials(own []grpc.DialOption) bool {
	const target = "passthrough:///check"
	_, none := grpc.NewClient(target) // the error of a connection without credentials
	conn, err := grpc.NewClient(target, own...)
	if err == nil {
		_ = conn.Close() // which does no I/O
	}
	return !errors.Is(err, none)
}

// warnOfServiceConfig logs a warning if the program's options set a service config, which
// has no effect. grpc-go does not say so: the field is read by reflection. Without such
// a field there is no warning.
func warnOfServiceConfig(log *slog.Logger, own []grpc.DialOption) {
	read, err := readOptions(own)
	if err != nil {
		return // the bus's own connection returns the error, or there is no such field
	}
	if config := read.FieldByName("defaultServiceConfigRawJSON"); config.Kind() == reflect.Pointer && !config.IsNil() {
		log.Warn("grpc.WithDefaultServiceConfig in option DialOptions has no effect, because the bus sets the service config: " +
			"use option Retry for retries, LoadBalancing for balancing, and the .proto or option Timeout for timeouts")
	}
}

// readOptions returns grpc-go's struct of a program's options. grpc-go has no method for it, so
// it is read by reflection.
func readOptions(own []grpc.DialOption) (reflect.Value, error) {
	options := append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, own...)
	conn, err := grpc.NewClient("passthrough:///check", options...) // does no I/O
	if err != nil {
		return reflect.Value{}, err
	}
	defer func() { _ = conn.Close() }()
	read := reflect.ValueOf(conn).Elem().FieldByName("dopts")
	if read.Kind() != reflect.Struct {
		return reflect.Value{}, errors.New("this version of grpc-go keeps its options elsewhere")
	}
	return read, nil
}

// serviceConfig returns gRPC's service config of a connection
// (https://github.com/grpc/grpc/blob/master/doc/service_config.md). It configures
// no health check: the policy watches the health of each connection itself.
func serviceConfig(balancing map[string]json.RawMessage, calls *client.Channel, limits map[string]timeout.Limit) (string, error) {
	config, err := json.Marshal(map[string]any{
		"loadBalancingConfig": []map[string]any{{client.PolicyName: map[string]any{
			"childPolicy": []map[string]json.RawMessage{balancing},
			"channel":     calls.ID(),
		}}},
		"methodConfig": timeout.MethodConfigs(limits),
	})
	if err != nil {
		return "", fmt.Errorf("service config: %w", err)
	}
	return string(config), nil
}
