// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nsqueue/nsqueue/test/chain"
)

// watchers are clients that look at a daemon at work.
type watchers struct {
	cancel   context.CancelFunc
	programs []*exec.Cmd
	scraping sync.WaitGroup
	err      error // of what is read over HTTP
}

// startWatch returns when all watchers look.
type startWatch func(ctx context.Context, bin string, d *chain.Daemon) (*watchers, error)

// startPage starts a server of the page, and reads what an open page does.
func startPage(ctx context.Context, bin string, d *chain.Daemon) (*watchers, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &watchers{cancel: cancel}
	cmd := exec.Command(filepath.Join(bin, "nsqueuectl"), "ui", "--socket", d.Socket())
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, w.stop())
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start page: %w", err), w.stop())
	}
	w.programs = append(w.programs, cmd)
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start page: %w", err), w.stop())
	}
	feed, err := openFeed(ctx, strings.TrimSpace(address)+"feed")
	if err != nil {
		return nil, errors.Join(err, w.stop())
	}
	w.scraping.Go(func() {
		n, err := io.Copy(io.Discard, feed)
		_ = feed.Close()
		if ctx.Err() == nil || n == 0 {
			w.err = fmt.Errorf("the page's feed ended after %d bytes: %w", n, err)
		}
	})
	return w, nil
}

func openFeed(ctx context.Context, address string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read the page's feed: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("read the page's feed: %s", resp.Status)
	}
	return resp.Body, nil
}

// startWatchers starts a watch, a capture, and a scrape every second, as an operator has them
// beside Prometheus.
func startWatchers(ctx context.Context, bin string, d *chain.Daemon) (*watchers, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &watchers{cancel: cancel}
	for _, args := range [][]string{{"watch"}, {"capture", "-w", "-"}} {
		args = append(args, "--socket", d.Socket())
		cmd := exec.Command(filepath.Join(bin, "nsqueuectl"), args...)
		if err := w.startProgram(cmd); err != nil {
			return nil, errors.Join(err, w.stop())
		}
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", d.Socket())
		},
	}}
	w.scraping.Go(func() { w.scrape(ctx, client) })
	return w, nil
}

// startProgram waits for the line that says that the program looks.
func (w *watchers) startProgram(cmd *exec.Cmd) error {
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start watcher: %w", err)
	}
	w.programs = append(w.programs, cmd)
	line, err := bufio.NewReader(stderr).ReadString('\n')
	if err != nil || !strings.Contains(line, "press Ctrl-C to stop") {
		return fmt.Errorf("start watcher %s: %q: %w", cmd, line, err)
	}
	return nil
}

func (w *watchers) scrape(ctx context.Context, client *http.Client) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		err := scrapeOnce(ctx, client)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			w.err = err
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func scrapeOnce(ctx context.Context, client *http.Client) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://nsqueued/metrics", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("scrape: %w", err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n == 0 {
		return fmt.Errorf("scrape: %d bytes: %w", n, err)
	}
	return nil
}

// stop ends all of them, which must have gone on until now.
func (w *watchers) stop() error {
	w.cancel()
	w.scraping.Wait()
	errs := []error{w.err}
	for _, cmd := range w.programs {
		errs = append(errs, cmd.Process.Signal(syscall.SIGINT))
		if err := cmd.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("watcher %s: %w", cmd, err))
		}
	}
	return errors.Join(errs...)
}
