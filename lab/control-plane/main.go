// control-plane is etcd, kube-apiserver, kube-controller-manager or
// kube-scheduler, whichever its first argument names. One program, because the
// four share nearly all of their code: one build and one link instead of four.
package main

import (
	"fmt"
	"net/url"
	"os"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("usage: %s etcd|apiserver|controller-manager|scheduler ARGUMENTS", os.Args[0]))
	}
	role := os.Args[1]
	os.Args = append(os.Args[:1], os.Args[2:]...)
	switch role {
	case "etcd":
		fail(serveEtcd())
	case "apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "controller-manager":
		os.Exit(cli.Run(controllermanager.NewControllerManagerCommand()))
	case "scheduler":
		os.Exit(cli.Run(scheduler.NewSchedulerCommand()))
	default:
		fail(fmt.Errorf("unknown role %q", role))
	}
}

// serveEtcd DIRECTORY serves on a port of the kernel's choice, says its URL on
// stdout, and goes on until it is killed: what it holds is for one test, so
// there is nothing to shut down in good order.
func serveEtcd() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: etcd DIRECTORY")
	}
	loopback := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	config := embed.NewConfig()
	config.Dir = os.Args[1]
	config.ListenClientUrls, config.AdvertiseClientUrls = loopback, loopback
	config.ListenPeerUrls, config.AdvertisePeerUrls = loopback, loopback
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.EnableGRPCGateway = false
	// Durability is of no use here, and a sync for each write is what makes etcd slow.
	config.UnsafeNoFsync = true
	config.LogLevel = "error" // it warns of every write
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	<-etcd.Server.ReadyNotify()
	fmt.Printf("http://%s\n", etcd.Clients[0].Addr())
	return <-etcd.Err()
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
