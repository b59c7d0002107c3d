// Package frameworktest runs services and their callers in memory, for tests. A service
// and a bus have all parts that they have in production, but no network and no etcd:
//
//	kit := frameworktest.New(t, func(apis grpc.ServiceRegistrar) {
//		authv1.RegisterAuthServiceServer(apis, auth.NewServer(accounts))
//	})
//	reply, err := authv1.NewAuthServiceClient(kit).CheckPassword(t.Context(), request)
//
// [Fake] replaces an RPC by a function of the test. [Kit.Inject] makes calls fail in a way
// that is named by its outcome, such as [ReplyLost]. [Calls] returns the calls that
// arrived.
//
// Everything ends with the test. Tests with a kit each can run in parallel. A kit that is
// made inside of [testing/synctest] uses its fake time, so that timeouts, leases and
// shutdowns take no time.
package frameworktest
