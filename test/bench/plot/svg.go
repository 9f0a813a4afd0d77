// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"html"
	"strconv"
	"strings"

	"github.com/nsqueue/nsqueue/test/bench/report"
)

// panel is one bar chart.
type panel struct {
	title, unit, metric string
}

func panels() []panel {
	return []panel{
		{"CPU per packet, saturated", "µs, less is better", report.FloodCPU},
		{"CPU per packet, 50,000/s", "µs, less is better", report.PaceCPU},
		{"TCP, one connection, in and out", "Gbit/s, more is better", report.TCPRate},
		{"Round trip p50 at 1,000/s", "µs, less is better", report.PingP50},
	}
}

// Measures of the drawing, in pixels.
const (
	width      = 860
	margin     = 16
	labelWidth = 250
	valueWidth = 150
	barHeight  = 16
	barStep    = 22
	headHeight = 34
	panelGap   = 18
	plotWidth  = width - 2*margin - labelWidth - valueWidth
)

// style follows the reader's light or dark page: the colours have contrast on
// both, and text takes the page's side.
const style = `
  text { font: 13px system-ui, "DejaVu Sans", sans-serif; fill: #24292f }
  .title { font-weight: 600; font-size: 14px }
  .unit, .value { fill: #57606a }
  .axis { stroke: #8c959f; stroke-width: 1 }
  .spread { stroke: #24292f; stroke-width: 1.5 }
  .other { fill: #8c959f }
  .ours { fill: #2f81f7 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .unit, .value { fill: #9da7b3 }
    .spread { stroke: #e6edf3 }
  }
`

// draw returns the panels below each other.
func draw(r *report.Report) []byte {
	var body bytes.Buffer
	y := margin
	for _, p := range panels() {
		y = p.draw(&body, r, y)
	}
	fmt.Fprintf(&body, "<text class=\"unit\" x=\"%d\" y=\"%d\">%s</text>\n", margin, y+4,
		html.EscapeString(caption(r)))
	height := y + margin
	var b bytes.Buffer
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "+
		"viewBox=\"0 0 %d %d\" role=\"img\">\n", width, height, width, height)
	fmt.Fprintf(&b, "<!-- SPDX-License-Identifier: Apache-2.0 -->\n")
	fmt.Fprintf(&b, "<title>nsqueued beside other NFQUEUE readers</title>\n<style>%s</style>\n",
		style)
	b.Write(body.Bytes())
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func caption(r *report.Report) string {
	return fmt.Sprintf("Median of %d alternating rounds; the line spans them. Linux %s, %d "+
		"processors, nsqueued %s.", r.Rounds, r.Machine.Kernel, r.Machine.Processors,
		r.Machine.Version)
}

// draw draws the panel at y if any reader has values for it, and returns where
// the next one begins.
func (p *panel) draw(b *bytes.Buffer, r *report.Report, y int) int {
	var rows []report.Row
	most := 0.0
	for _, row := range r.Rows {
		if s, ok := row.Metrics[p.metric]; ok {
			rows = append(rows, row)
			most = max(most, s.Max)
		}
	}
	if most == 0 {
		return y
	}
	fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\"><tspan class=\"title\">%s</tspan>"+
		"<tspan class=\"unit\" dx=\"8\">%s</tspan></text>\n", margin, y+14,
		html.EscapeString(p.title), html.EscapeString(p.unit))
	y += headHeight - 8
	top := y
	for _, row := range rows {
		drawBar(b, &row, row.Metrics[p.metric], most, y)
		y += barStep
	}
	x := margin + labelWidth
	fmt.Fprintf(b, "<line class=\"axis\" x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\"/>\n", x, top-3, x,
		y-3)
	return y + panelGap
}

// drawBar draws the median as a bar and the extremes as a line over it.
func drawBar(b *bytes.Buffer, row *report.Row, s report.Spread, most float64, y int) {
	class := "other"
	if strings.HasPrefix(row.Name, report.Full) {
		class = "ours"
	}
	x := margin + labelWidth
	at := func(v float64) string {
		return strconv.FormatFloat(float64(x)+v/most*plotWidth, 'f', 1, 64)
	}
	fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", x-8, y+13,
		html.EscapeString(row.Label))
	fmt.Fprintf(b, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>\n", class,
		x, y, s.Median/most*plotWidth, barHeight)
	fmt.Fprintf(b, "<line class=\"spread\" x1=\"%s\" y1=\"%d\" x2=\"%s\" y2=\"%d\"/>\n", at(s.Min),
		y+barHeight/2, at(s.Max), y+barHeight/2)
	fmt.Fprintf(b, "<text class=\"value\" x=\"%d\" y=\"%d\">%s</text>\n", x+plotWidth+10, y+13,
		html.EscapeString(s.String()))
}
