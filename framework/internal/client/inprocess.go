package client

import (
	"log/slog"
	"reflect"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/internal/inprocess"
)

// ofTransport are the fields of grpc-go's options that only a connection can honour, and
// ofConnection those of the options of its connections.
var ofTransport, ofConnection = []string{"compressorV0", "dc", "binaryLogger"}, []string{"Dialer", "PerRPCCredentials", "CredsBundle", "StatsHandlers"}

// mayLink reports whether calls of a bus may leave the network out: the program's options
// have none that only a connection can honour. It logs one that is in the way.
func mayLink(log *slog.Logger, own []grpc.DialOption) bool {
	problem := inTheWay(own)
	if problem != "" {
		log.Debug("calls to instances in this process go over the network, because of an option in DialOptions", "option", problem)
	}
	return problem == ""
}

// inTheWay returns the first option of a program that only a connection can honour, "" if
// there is none. With fields that it does not know, inTheWay does not return "".
func inTheWay(own []grpc.DialOption) string {
	read, err := readOptions(own)
	if err != nil {
		return err.Error()
	}
	if name := firstSet(read, ofTransport); name != "" {
		return name
	}
	if read = read.FieldByName("copts"); read.Kind() != reflect.Struct {
		return "copts"
	}
	return firstSet(read, ofConnection)
}

// firstSet returns the first of some fields that is set, or that there is not.
func firstSet(options reflect.Value, names []string) string {
	for _, name := range names {
		if set, known := inprocess.IsSet(options.FieldByName(name)); set || !known {
			return name
		}
	}
	return ""
}
