package contract_test

import (
	"slices"
	"sync"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/onecall-dev/onecall/internal/contract"
)

func TestAnIndexFindsServicesByTheirFullProtoNames(t *testing.T) {
	t.Parallel()
	index := contract.NewIndex(files(t))
	t.Run("a service", func(t *testing.T) {
		t.Parallel()
		found := index.Service("shop.v1.ShopService")
		if found == nil || found.Err != nil || found.API.Name != "shop" || found.Descriptor.FullName() != "shop.v1.ShopService" {
			t.Errorf("Service = %+v", found)
		}
	})
	t.Run("a service with an error", func(t *testing.T) {
		t.Parallel()
		found := index.Service("shop.v1.BadNameService")
		if found == nil || found.API != nil {
			t.Fatalf("Service = %+v, want it with its error", found)
		}
		wantFault(t, found.Err, "shop.v1.BadNameService", `"Bad"`)
		_, err := index.Find("shop.v1.BadNameService")
		wantFault(t, err, "shop.v1.BadNameService", `"Bad"`)
	})
	t.Run("the name of a message", func(t *testing.T) {
		t.Parallel()
		_, err := index.Find("shop.v1.Message")
		wantFault(t, err, "shop.v1.Message", "another thing than a service")
	})
	for title, absent := range map[string]string{"absent": "shop.v1.OtherService", "a bus name": "shop", "a message": "shop.v1.Message", "empty": ""} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			if found := index.Service(absent); found != nil {
				t.Errorf("Service(%q) = %+v, want nil", absent, found)
			}
		})
	}
}

func TestAnIndexFindsTheServicesOfABusName(t *testing.T) {
	t.Parallel()
	index := contract.NewIndex(files(t))
	for name, want := range map[string][]string{
		"shop":                 {"shop.v1.ShopService", "shop.v2.ShopService"}, // without the service that has an invalid method
		"shop.v1.PlainService": {"shop.v1.PlainService"},
		"shop.v1.ShopService":  nil, // its name is shop
		"Bad":                  nil,
		"other":                nil,
		"":                     nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, service := range index.Named(name) {
				got = append(got, service.API.Service)
			}
			if !slices.Equal(got, want) {
				t.Errorf("Named = %v, want %v", got, want)
			}
		})
	}
}

func TestAnIndexFindsRPCs(t *testing.T) {
	t.Parallel()
	index := contract.NewIndex(files(t))
	for name, want := range map[string]string{
		"shop.buy":                     "/shop.v1.ShopService/Buy", // the first of two services with this RPC
		"shop.v2.ShopService.buy":      "/shop.v2.ShopService/Buy", // by full proto name
		"shop.v1.PlainService.ping":    "/shop.v1.PlainService/Ping",
		"shop.sell":                    "",
		"shop.Buy":                     "",
		"shop.v1.BadMethodService.buy": "",
		"":                             "",
	} {
		t.Run("by the bus name "+name, func(t *testing.T) {
			t.Parallel()
			wantMethod(t, index.RPC(name), want)
		})
	}
	for path, want := range map[string]string{
		"/shop.v2.ShopService/Buy":      "/shop.v2.ShopService/Buy",
		"/shop.v2.ShopService/buy":      "",
		"/shop.v1.BadMethodService/Buy": "",
		"shop.buy":                      "",
	} {
		t.Run("by the path "+path, func(t *testing.T) {
			t.Parallel()
			wantMethod(t, index.Method(path), want)
		})
	}
}

func wantMethod(t *testing.T, found *contract.Method, path string) {
	t.Helper()
	switch {
	case found == nil && path == "":
	case found == nil:
		t.Errorf("nothing was found, want %s", path)
	case found.RPC.Method != path:
		t.Errorf("found %q, want %q", found.RPC.Method, path)
	case "/"+string(found.Descriptor.Parent().FullName())+"/"+string(found.Descriptor.Name()) != path, found.Service.API.RPCs[0].Method != path:
		t.Errorf("the service or descriptor are of another method: %+v", found)
	}
}

func TestAnIndexReadsFilesThatAreAddedLater(t *testing.T) {
	t.Parallel()
	known := files(t)
	index := contract.NewIndex(known)
	before := index.Service("shop.v1.ShopService")
	wantMethod(t, index.RPC("late.buy"), "")
	add := func(file protoreflect.FileDescriptor) {
		t.Helper()
		if err := known.RegisterFile(file); err != nil {
			t.Fatal(err)
		}
	}
	add(file(t, "late/v1/late.proto", "late.v1", service("LateService", named("late"), method("Buy", nil))))
	wantMethod(t, index.RPC("late.buy"), "/late.v1.LateService/Buy")
	add(file(t, "shop/v3/shop.proto", "shop.v3", service("ShopService", named("shop"), method("Buy", nil))))
	if found := index.Named("shop"); len(found) != 3 {
		t.Errorf("%d services are of the name, want 3", len(found))
	}
	if before.API.Name != "shop" {
		t.Error("what was found before has changed")
	}
}

func TestAnIndexIsSafeForAllGoroutines(t *testing.T) {
	t.Parallel()
	index := contract.NewIndex(files(t))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if index.RPC("shop.buy") == nil || len(index.Named("shop")) != 2 {
				t.Error("a name was not found")
			}
		})
	}
	all.Wait()
}

func TestFindingAKnownRPCAllocatesNothing(t *testing.T) {
	index := contract.NewIndex(files(t))
	if n := testing.AllocsPerRun(100, func() { index.RPC("shop.buy"); index.Method("/shop.v2.ShopService/Buy") }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkIndex(b *testing.B) {
	b.Run("build", func(b *testing.B) {
		for b.Loop() {
			contract.NewIndex(protoregistry.GlobalFiles).RPC("none")
		}
	})
	b.Run("find", func(b *testing.B) {
		index := contract.NewIndex(protoregistry.GlobalFiles)
		for b.Loop() {
			index.Named("none")
		}
	})
}
