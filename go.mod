module github.com/nsqueue/nsqueue

go 1.26
