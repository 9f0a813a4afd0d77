// SPDX-License-Identifier: Apache-2.0

// Package cluster asks the API server of Kubernetes, with the rights of the pod in which
// the program runs.
package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Credentials is the directory in which each pod that has a service account finds what it
// needs.
const Credentials = "/var/run/secrets/kubernetes.io/serviceaccount"

// Client asks one API server. It is safe for concurrent use.
type Client struct {
	base, dir string
	http      *http.Client
}

// New returns a client for the server that the environment names, with the credentials of
// a directory.
func New(getenv func(string) string, dir string) (*Client, error) {
	host, port := getenv("KUBERNETES_SERVICE_HOST"), getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, errors.New("this is no pod of a cluster: KUBERNETES_SERVICE_HOST and " +
			"KUBERNETES_SERVICE_PORT are not set")
	}
	pem, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("the pod has no credentials: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", filepath.Join(dir, "ca.crt"))
	}
	return &Client{
		base: "https://" + net.JoinHostPort(host, port), dir: dir,
		http: &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			// Of connections that hang: the server may be another one by then.
			IdleConnTimeout: time.Second,
		}},
	}, nil
}

// DaemonSet is how far a DaemonSet has come.
type DaemonSet struct {
	Metadata struct {
		Generation int64 `json:"generation"`
	} `json:"metadata"`
	Status struct {
		ObservedGeneration     int64 `json:"observedGeneration"`
		DesiredNumberScheduled int   `json:"desiredNumberScheduled"`
		NumberReady            int   `json:"numberReady"`
	} `json:"status"`
}

// Ready reports whether there is a ready pod on each node that is to have one.
func (d *DaemonSet) Ready() bool {
	return d.Status.ObservedGeneration >= max(1, d.Metadata.Generation) &&
		d.Status.NumberReady >= d.Status.DesiredNumberScheduled
}

// DaemonSet returns one by its name.
func (c *Client) DaemonSet(ctx context.Context, namespace, name string) (*DaemonSet, error) {
	d := &DaemonSet{}
	return d, c.get(ctx, "/apis/apps/v1/namespaces/"+url.PathEscape(namespace)+"/daemonsets/"+
		url.PathEscape(name), d)
}

// Pod is where a pod is, and whether it is ready.
type Pod struct {
	Spec struct {
		NodeName string `json:"nodeName"`
	} `json:"spec"`
	Status struct {
		Conditions []struct {
			Type   string `json:"type"`
			Status string `json:"status"`
		} `json:"conditions"`
	} `json:"status"`
}

// Ready reports whether the pod is.
func (p *Pod) Ready() bool {
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

// pods is a part of a list.
type pods struct {
	Metadata struct {
		Continue string `json:"continue"`
	} `json:"metadata"`
	Items []Pod `json:"items"`
}

const (
	// page is how many pods an answer has.
	page = 500
	// maxPods bounds them all.
	maxPods = 100_000
)

// Pods returns those that labels select.
func (c *Client) Pods(ctx context.Context, namespace, labels string) ([]Pod, error) {
	var all []Pod
	query := url.Values{"labelSelector": {labels}, "limit": {strconv.Itoa(page)}}
	for {
		var some pods
		err := c.get(ctx, "/api/v1/namespaces/"+url.PathEscape(namespace)+"/pods?"+
			query.Encode(), &some)
		if err != nil {
			return nil, err
		}
		all = append(all, some.Items...)
		if some.Metadata.Continue == "" || len(all) > maxPods {
			return all, nil
		}
		query.Set("continue", some.Metadata.Continue)
	}
}

const (
	// maxAnswer is more than a page of pods.
	maxAnswer = 64 << 20
	// maxRefusal is what is read of an answer that says no.
	maxRefusal = 4 << 10
	// answerTime is for how long the server may be silent.
	answerTime = 20 * time.Second
)

// get reads an object. The token is read each time, because it is replaced now and then.
func (c *Client) get(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	token, err := os.ReadFile(filepath.Join(c.dir, "token"))
	if err != nil {
		return fmt.Errorf("the pod has no credentials: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Accept", "application/json")
	answer, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return refusal(answer)
	}
	return decode(answer.Body, into)
}

func decode(from io.Reader, into any) error {
	if err := json.NewDecoder(io.LimitReader(from, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("read the API server's answer: %w", err)
	}
	return nil
}

// refusal is why the server does not answer.
func refusal(answer *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(answer.Body, maxRefusal))
	var said struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(b, &said) != nil || said.Message == "" {
		said.Message = "no reason given"
	}
	return fmt.Errorf("the API server answers %s: %s", answer.Status, said.Message)
}
