package etcd

import (
	"context"
	"math"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// watchStream is a stream of etcd's watch service
// (https://etcd.io/docs/latest/learning/api/#watch-api). The watcher's
// goroutine sends on it and another receives.
type watchStream struct {
	stream  grpc.BidiStreamingClient[pb.WatchRequest, pb.WatchResponse]
	end     context.CancelFunc
	replies chan watchReply
	ended   sync.WaitGroup

	last    int64
	watches map[int64]*watch
	// created are the watches whose creation etcd has not confirmed, in the
	// order in which it will: a refusal does not say whose it is.
	created []*watch
}

// watchReply is a message of the stream, or why it ended.
type watchReply struct {
	response *pb.WatchResponse
	err      error
}

// openWatchStream opens a stream, within ctx; it lasts until life ends or etcd
// has no leader.
func openWatchStream(ctx, life context.Context, client *clientv3.Client) (*watchStream, error) {
	streamCtx, end := context.WithCancel(clientv3.WithRequireLeader(life))
	stop := context.AfterFunc(ctx, end)
	defer stop()
	stream, err := pb.NewWatchClient(client.ActiveConnection()).Watch(streamCtx, grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err != nil {
		end()
		return nil, err
	}
	s := &watchStream{stream: stream, end: end, replies: make(chan watchReply), watches: make(map[int64]*watch)}
	s.ended.Go(func() { s.receive(streamCtx) })
	return s, nil
}

// receive hands on what comes until the stream ends.
func (s *watchStream) receive(ctx context.Context) {
	for {
		response, err := s.stream.Recv()
		select {
		case s.replies <- watchReply{response, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// create begins a watch. That the stream has ended shows when it is received
// from.
func (s *watchStream) create(w *watch, prefix string, revision int64) {
	s.last++
	w.id = s.last
	s.watches[w.id] = w
	s.created = append(s.created, w)
	_ = s.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key:           []byte(prefix),
		RangeEnd:      []byte(clientv3.GetPrefixRangeEnd(prefix)),
		StartRevision: revision,
		WatchId:       w.id,
	}}})
}

// cancel ends a watch.
func (s *watchStream) cancel(w *watch) {
	delete(s.watches, w.id)
	_ = s.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: w.id}}})
}

// find gives the watch that a response is about, nil when it has ended.
func (s *watchStream) find(response *pb.WatchResponse) *watch {
	w := s.watches[response.GetWatchId()]
	if response.GetCreated() && len(s.created) > 0 {
		confirmed := s.created[0]
		s.created = s.created[1:]
		if response.GetCanceled() && w == nil && s.watches[confirmed.id] == confirmed {
			w = confirmed
		}
	}
	if w != nil && response.GetCanceled() {
		delete(s.watches, w.id)
	}
	return w
}

// close ends the stream and waits for who receives.
func (s *watchStream) close() {
	s.end()
	s.ended.Wait()
}
