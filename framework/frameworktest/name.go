package frameworktest

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/onecall-dev/onecall/internal/contract"
)

// nameKey is the key of a context's value to which a kit writes the method of a call
// instead of making it.
type nameKey struct{}

// errNamed is the error of such a call.
var errNamed = errors.New("frameworktest: the call was made for its name only")

// name reports whether a call is made for its name only, and writes the name.
func name(ctx context.Context, method string) bool {
	into, ok := ctx.Value(nameKey{}).(*string)
	if ok {
		*into = method
	}
	return ok
}

// errNoClient is the error of a function that is no method of a client of the kit.
var errNoClient = errors.New("the function is no method of a generated client of the kit, such as authv1.NewAuthServiceClient(kit).CheckPassword")

// pathOf returns gRPC's path of an RPC, or the text by which the test names it.
func pathOf(rpc any) (string, error) {
	if text, ok := rpc.(string); ok {
		return text, nil
	}
	value := reflect.ValueOf(rpc)
	if value.Kind() != reflect.Func || value.IsNil() {
		return "", fmt.Errorf("%T names no RPC: give a method of a generated client, such as authv1.NewAuthServiceClient(kit).CheckPassword, or the name as a text", rpc)
	}
	kind := value.Type()
	if !kind.IsVariadic() || kind.NumIn() < 2 || kind.In(0) != reflect.TypeFor[context.Context]() {
		return "", errNoClient
	}
	var path string
	in := []reflect.Value{reflect.ValueOf(context.WithValue(context.Background(), nameKey{}, &path))}
	for i := 1; i < kind.NumIn()-1; i++ {
		if kind.In(i).Kind() != reflect.Pointer {
			return "", errNoClient
		}
		in = append(in, reflect.New(kind.In(i).Elem()))
	}
	value.Call(in)
	if path == "" {
		return "", errNoClient
	}
	return path, nil
}

func newIndex() *contract.Index { return contract.NewIndex(protoregistry.GlobalFiles) }

// isStream reports whether a method streams in any direction.
func isStream(method *contract.Method) bool {
	return method.Descriptor.IsStreamingClient() || method.Descriptor.IsStreamingServer()
}
