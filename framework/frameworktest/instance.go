package frameworktest

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/internal/server"
)

// Instance is an instance of a service in a kit. Its methods are safe for all goroutines.
type Instance struct {
	kit      *Kit
	register func(apis grpc.ServiceRegistrar)
	options  []framework.ServeOption
	address  *net.TCPAddr

	mu  sync.Mutex // guards the fields below
	all []*generation
}

// generation is an instance from one start to its end. It has an incarnation of its own.
type generation struct {
	instance *Instance
	listener *listener
	die      context.CancelFunc
	gate     gate

	mu            sync.Mutex         // guards the fields below
	service       *framework.Service // nil until it was started
	names         []string           // of its APIs
	links         map[*link]struct{}
	dead          bool
	registrations []discovery.Registration
}

// start starts another generation at the address of the instance.
func (i *Instance) start() error {
	g := &generation{
		instance: i, links: make(map[*link]struct{}),
		listener: &listener{Listener: bufconn.Listen(bufferBytes), address: i.address, network: i.kit.network},
	}
	killed, die := context.WithCancel(context.Background())
	g.die = die
	i.kit.network.listen(g)
	var service *framework.Service
	var err error
	ended := !i.kit.marked.do(func() {
		options := slices.Concat([]framework.ServeOption{framework.Logger(i.kit.logger)}, i.options, []framework.ServeOption{
			framework.Listener(g.listener), framework.AdvertiseAs(i.address.String()), framework.AfterAdmission(i.kit.strikes.refuseUnary, i.kit.strikes.refuseStream),
		})
		service, err = framework.Start(server.WithKill(context.Background(), killed), &registering{i.kit.registry, g}, func(apis grpc.ServiceRegistrar) {
			i.register(&registrar{kit: i.kit, generation: g, to: apis})
		}, options...)
	})
	if ended {
		err = errors.New("the function that registers the APIs ended its goroutine, as t.FailNow does")
	}
	if err != nil {
		die()
		i.kit.network.leave(g)
		return err
	}
	g.mu.Lock()
	g.service = service
	g.mu.Unlock()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.all = append(i.all, g)
	return nil
}

// current returns the generation that was started last.
func (i *Instance) current() *generation {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.all[len(i.all)-1]
}

// apis returns the bus names of the instance's APIs.
func (i *Instance) apis() []string {
	g := i.current()
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.names)
}

// Address returns the address of the instance, "host:port". No network has it.
func (i *Instance) Address() string { return i.address.String() }

// Stop shuts the instance down gracefully, as the end of the context of framework.Serve
// does, and returns the error of that when the instance has ended.
func (i *Instance) Stop() error { return i.current().stop() }

// Kill ends the instance as the end of its process would: its connections break, and the
// registry still has it, as etcd until its lease ends. [Instance.Expire] ends that.
func (i *Instance) Kill() { i.current().kill() }

// Expire removes the instance from the registry, as the end of its lease in etcd would. The
// instance may still run.
func (i *Instance) Expire() { i.current().expire() }

// Restart kills the instance, unless it has ended, and starts it again at the same address.
// What New or Serve registers is registered again. If that fails, so does the test.
func (i *Instance) Restart() {
	before := i.current()
	if err := i.start(); err != nil {
		i.kit.tb.Errorf("frameworktest: the instance cannot be started again: %v", err)
		return
	}
	before.kill()
	before.expire()
}

// close ends all generations.
func (i *Instance) close() {
	i.mu.Lock()
	all := i.all
	i.mu.Unlock()
	for _, g := range all {
		g.kill()
		g.expire()
	}
}

// stop shuts the generation down gracefully.
func (g *generation) stop() error {
	g.mu.Lock()
	service := g.service
	g.mu.Unlock()
	if service == nil {
		return nil
	}
	return service.Stop(context.Background())
}

// kill ends the generation without a shutdown, and waits for its end.
func (g *generation) kill() {
	g.instance.kit.network.leave(g)
	g.mu.Lock()
	g.dead = true
	links, service := g.links, g.service
	g.links = nil
	g.mu.Unlock()
	for l := range links {
		l.cut()
	}
	g.die()
	if service != nil {
		<-service.Done()
	}
}

// add adds a connection to those that end with the generation, or cuts it.
func (g *generation) add(l *link) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dead {
		l.cut()
		return
	}
	g.links[l] = struct{}{}
}

func (g *generation) remove(l *link) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.links, l)
}

// expire removes the generation from the registry.
func (g *generation) expire() {
	g.mu.Lock()
	registrations := g.registrations
	g.mu.Unlock()
	for _, registration := range registrations {
		g.instance.kit.registry.expire(registration)
	}
}

// registering is the registry as a generation sees it. It notes what the generation
// registers.
type registering struct {
	*Registry

	generation *generation
}

// Register implements [discovery.Registry].
func (r *registering) Register(instances ...discovery.Instance) (discovery.Registration, error) {
	made, err := r.Registry.Register(instances...)
	if err == nil {
		r.generation.mu.Lock()
		r.generation.registrations = append(r.generation.registrations, made)
		r.generation.mu.Unlock()
	}
	return made, err
}

// gate is passed by everything that goes to an instance or comes from it, except while the
// instance is frozen. The zero value is open.
type gate struct {
	mu   sync.Mutex    // guards the field below
	open chan struct{} // closed when the gate is opened; nil while it is open
}

// close closes the gate for a time, if it is open.
func (g *gate) close(length time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open != nil {
		return
	}
	open := make(chan struct{})
	g.open = open
	time.AfterFunc(length, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.open = nil
		close(open)
	})
}

// pass waits until the gate is open, or ended is closed.
func (g *gate) pass(ended <-chan struct{}) {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	if open == nil {
		return
	}
	select {
	case <-open:
	case <-ended:
	}
}
