package client

import (
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// binding is the picker that has the child pick and binds the attempt.
type binding struct {
	policy  *policy
	child   balancer.Picker
	channel uint64
}

// Pick implements [balancer.Picker].
func (b *binding) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	attempt := attemptOf(info.Ctx)
	if err := attempt.check(b.channel, info.FullMethodName); err != nil {
		return balancer.PickResult{}, err
	}
	result, err := b.child.Pick(info)
	if err != nil {
		return result, err
	}
	bound, ok := result.SubConn.(*boundSubConn)
	if !ok {
		endPick(result)
		return balancer.PickResult{}, errUnbound
	}
	if bound.lacks(info.FullMethodName) {
		bound, result = b.pickOther(info, bound, result)
	}
	result.SubConn = bound.SubConn
	incarnation := bound.incarnation.Load()
	if incarnation == nil { // the connection has just ended: grpc-go waits for the next picker
		endPick(result)
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	}
	if incarnation.IsZero() && bound.observer == nil {
		endPick(result)
		return balancer.PickResult{}, unattached(bound.address)
	}
	sent := sendingOf(info.Ctx, attempt)
	if !sent.isRead(info.Ctx) {
		sent = nil
	}
	identity, err := attempt.bind(bound, *incarnation, sent, result.Done)
	if err != nil {
		endPick(result)
		return balancer.PickResult{}, err
	}
	if incarnation.IsZero() {
		attempt.channel.noteAnonymous(bound.address)
	}
	result.Done = attempt.done
	if result.Metadata == nil {
		result.Metadata = identity
	} else if identity != nil {
		result.Metadata = metadata.Join(result.Metadata, identity)
	}
	return result, nil
}

// repicks is how often the child picks again, when the instance that it picked lacks
// the called method. Until then its earlier picks count as calls in flight, so that
// a child that counts those picks another one.
const repicks = 4

// pickOther returns another connection instead of one whose instance lacks the called
// method: one that the child picks, else any, else the first, whose instance then
// refuses the call.
func (b *binding) pickOther(info balancer.PickInfo, first *boundSubConn, firstResult balancer.PickResult) (*boundSubConn, balancer.PickResult) {
	var rejected []balancer.PickResult
	defer func() {
		for _, result := range rejected {
			endPick(result)
		}
	}()
	for range repicks {
		result, err := b.child.Pick(info)
		if err != nil {
			break
		}
		bound, ok := result.SubConn.(*boundSubConn)
		if ok && !bound.lacks(info.FullMethodName) {
			endPick(firstResult)
			return bound, result
		}
		rejected = append(rejected, result)
	}
	if other := b.policy.having(info.FullMethodName); other != nil {
		endPick(firstResult)
		return other, balancer.PickResult{}
	}
	return first, firstResult
}

// endPick ends a pick that sends no call.
func endPick(result balancer.PickResult) {
	if result.Done != nil {
		result.Done(balancer.DoneInfo{})
	}
}

// errUnbound is the error of a call for which the child picked a connection that it
// did not make through the policy.
var errUnbound = status.Error(codes.Internal, "the call is not sent, because it could run more than once: the balancing policy picked a connection whose instance is not known")

// unattached returns the error of a call to an address that lost its attributes, and
// whose instance does not name itself.
func unattached(address string) error {
	return status.Errorf(codes.Internal, "the call is not sent to %s, because it could run more than once: something between the bus's resolver and its connections, "+
		"such as a proxy of the environment, replaced the instance's address, and with it the instance's incarnation", address)
}
