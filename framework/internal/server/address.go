package server

import (
	"fmt"
	"net"
	"strconv"
)

// advertised returns the address at which callers reach a listener.
func advertised(listener net.Listener, advertise string) (string, error) {
	tcp, isTCP := listener.Addr().(*net.TCPAddr)
	if advertise != "" {
		host, port, err := net.SplitHostPort(advertise)
		if err != nil || port != "0" || !isTCP {
			return advertise, err
		}
		return net.JoinHostPort(host, strconv.Itoa(tcp.Port)), nil
	}
	if !isTCP {
		return "", fmt.Errorf("option AdvertiseAs: is needed, for callers cannot dial %s", listener.Addr())
	}
	if !tcp.IP.IsUnspecified() {
		return tcp.String(), nil
	}
	ip, err := hostIP()
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(ip.String(), strconv.Itoa(tcp.Port)), nil
}

// hostIP returns an address of this machine that other machines may reach: the first
// that is neither loopback nor link-local, IPv4 before IPv6. If there is none, it
// returns loopback.
func hostIP() (net.IP, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("option AdvertiseAs: is needed, for the addresses of this machine can't be read: %w", err)
	}
	var six net.IP
	for _, address := range addresses {
		network, ok := address.(*net.IPNet)
		if !ok || !network.IP.IsGlobalUnicast() {
			continue
		}
		if four := network.IP.To4(); four != nil {
			return four, nil
		}
		if six == nil {
			six = network.IP
		}
	}
	if six != nil {
		return six, nil
	}
	return net.IPv4(127, 0, 0, 1), nil
}
