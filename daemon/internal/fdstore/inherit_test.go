// SPDX-License-Identifier: Apache-2.0

package fdstore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// childEnv makes this test binary a process that inherits descriptors.
const childEnv = "FDSTORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	if err := child(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child prints the name and the content of each file that it inherits.
func child() error {
	if err := os.Setenv(EnvListenPID, strconv.Itoa(os.Getpid())); err != nil {
		return err
	}
	s, err := FromEnvironment(ProcessEnvironment())
	if err != nil {
		return err
	}
	for _, d := range s.Inherited() {
		flags, err := unix.FcntlInt(d.File.Fd(), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			return fmt.Errorf("%s stays open over exec: flags %#x: %w", d.Name, flags, err)
		}
		b, err := io.ReadAll(d.File)
		if err != nil {
			return err
		}
		fmt.Printf("%s=%s\n", d.Name, b)
	}
	if left := os.Getenv(EnvListenPID) + os.Getenv(EnvListenFDs) + os.Getenv(EnvListenNames); left != "" {
		return errors.New("the environment is not clean")
	}
	// What was inherited counts: one is free, and one can be made free.
	if err := s.Put(queueName, s.Inherited()[0].File); err != nil {
		return err
	}
	if s.Put(queueName, s.Inherited()[0].File) == nil {
		return errors.New("put beyond the capacity")
	}
	if stored, capacity := s.Usage(); stored != capacity || capacity == 0 {
		return fmt.Errorf("%d of %d descriptors are stored, want all", stored, capacity)
	}
	if err := s.RemoveNamed("stored"); err != nil {
		return err
	}
	return s.Put(queueName, s.Inherited()[0].File)
}

func TestInherited(t *testing.T) {
	where := address(t)
	r := listen(t, where)
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"=1", EnvNotifySocket+"="+where, EnvCapacity+"=4",
		EnvListenFDs+"=3", EnvListenNames+"=q3ti:stored:q3ti")
	for i := range 3 {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer read.Close()
		if _, err := fmt.Fprint(write, i); err != nil {
			t.Fatal(err)
		}
		if err := write.Close(); err != nil {
			t.Fatal(err)
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, read)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	if want := "q3ti=0\nstored=1\nq3ti=2\n"; string(out) != want {
		t.Errorf("inherited %q, want %q", out, want)
	}
	r.want(t, "FDSTORE=1\nFDNAME=q3tf\nFDPOLL=0", 1)
	r.want(t, "FDSTOREREMOVE=1\nFDNAME=stored", 0)
	r.want(t, "FDSTORE=1\nFDNAME=q3tf\nFDPOLL=0", 1)
}
