// The recipe of docs/rekognition.md for Go, as Debian's version of the SDK has it: list collections, and print their number.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/rekognition"
)

func main() {
	client := rekognition.New(rekognition.Options{
		Region:           os.Getenv("AWS_REGION"),
		EndpointResolver: rekognition.EndpointResolverFromURL(os.Getenv("AWS_ENDPOINT_URL_REKOGNITION")),
		Credentials: aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider(
			os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), "")),
	})
	answer, err := client.ListCollections(context.Background(), &rekognition.ListCollectionsInput{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(len(answer.CollectionIds))
}
