// SPDX-License-Identifier: Apache-2.0

// Command stuck is a worker that is fit, and never ready.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if os.Getenv("NSQUEUE_CHECK") != "" {
		return
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
}
