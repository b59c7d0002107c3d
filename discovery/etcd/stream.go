package etcd

import (
	"context"
	"fmt"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/onecall-dev/onecall/internal/etcdclient"
)

// watchStream is a stream of etcd's watch service
// (https://etcd.io/docs/latest/learning/api/#watch-api). The watcher's
// goroutine sends on it and another receives.
type watchStream struct {
	stream grpc.BidiStreamingClient[pb.WatchRequest, pb.WatchResponse]
	end    context.CancelFunc
	ended  sync.WaitGroup

	// mu guards replies and bytes. No other lock is acquired while it is held.
	mu sync.Mutex
	// replies are those that the watcher has not taken. The receiving goroutine never
	// waits for the watcher: the watcher may be sending, and etcd receives only while its
	// own messages are received.
	replies []watchReply
	// bytes is the size of replies, and most is its limit.
	bytes, most int
	arrived     chan struct{} // has room for one

	// The fields below belong to the watcher's goroutine.

	last    int64            // the id of the latest watch
	watches map[int64]*watch // by id
	// unconfirmed are the watches that etcd has not confirmed, in the order of their
	// requests. etcd confirms in that order, and a refusal has no id.
	unconfirmed []*watch
}

// watchReply is a message of the stream, or why it ended.
type watchReply struct {
	response *pb.WatchResponse
	err      error
}

// openWatchStream opens a stream, within ctx. The stream lasts until life ends, etcd has
// no leader, or more than most bytes came that the watcher has not taken.
func openWatchStream(ctx, life context.Context, client *clientv3.Client, most int) (*watchStream, error) {
	streamCtx, end := context.WithCancel(clientv3.WithRequireLeader(life))
	stop := context.AfterFunc(ctx, end)
	defer stop()
	stream, err := pb.NewWatchClient(client.ActiveConnection()).Watch(streamCtx, grpc.MaxCallRecvMsgSize(etcdclient.MaxAnswer))
	if err != nil {
		end()
		return nil, err
	}
	s := &watchStream{stream: stream, end: end, most: most, arrived: make(chan struct{}, 1), watches: make(map[int64]*watch)}
	s.ended.Go(s.receive)
	return s, nil
}

// receive keeps the replies, until the stream ends or too many bytes wait.
func (s *watchStream) receive() {
	for {
		response, err := s.stream.Recv()
		s.mu.Lock()
		s.bytes += proto.Size(response)
		if s.bytes > s.most { // the error has all APIs listed again
			s.replies, response, err = nil, nil, fmt.Errorf("more than %d bytes came at once", s.most)
			s.end()
		}
		s.replies = append(s.replies, watchReply{response, err})
		s.mu.Unlock()
		select {
		case s.arrived <- struct{}{}:
		default: // the watcher is already woken
		}
		if err != nil {
			return
		}
	}
}

// take returns the replies since the last time.
func (s *watchStream) take() []watchReply {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.replies
	s.replies, s.bytes = nil, 0
	return taken
}

// create starts a watch. If the stream has ended, receiving from it returns the error.
func (s *watchStream) create(w *watch, prefix string, revision int64) {
	s.last++
	w.id = s.last
	s.watches[w.id] = w
	s.unconfirmed = append(s.unconfirmed, w)
	_ = s.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key:           []byte(prefix),
		RangeEnd:      []byte(clientv3.GetPrefixRangeEnd(prefix)),
		StartRevision: revision,
		WatchId:       w.id,
		Fragment:      true, // so that no message has more than etcd takes in one request
	}}})
}

// cancel ends a watch.
func (s *watchStream) cancel(w *watch) {
	delete(s.watches, w.id)
	_ = s.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: w.id}}})
}

// find returns the watch that a response is about, nil if the watch has ended.
func (s *watchStream) find(response *pb.WatchResponse) *watch {
	w := s.watches[response.GetWatchId()]
	if response.GetCreated() && len(s.unconfirmed) > 0 {
		confirmed := s.unconfirmed[0]
		s.unconfirmed = s.unconfirmed[1:]
		if response.GetCanceled() && w == nil && s.watches[confirmed.id] == confirmed {
			w = confirmed
		}
	}
	if w != nil && response.GetCanceled() {
		delete(s.watches, w.id)
	}
	return w
}

// close ends the stream and waits for the receiving goroutine.
func (s *watchStream) close() {
	s.end()
	s.ended.Wait()
}
