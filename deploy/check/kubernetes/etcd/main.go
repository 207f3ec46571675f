// etcd, from its Go modules: where the API server of deploy-check keeps what it admits.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
